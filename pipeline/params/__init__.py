"""The parameters: params.yaml, checked, as frozen objects."""

from pipeline.params.changes import changed
from pipeline.params.load import load_params
from pipeline.params.schema import (
    BackboneParams,
    DecoderParams,
    Params,
    PresetParams,
    PromptParams,
    TowerParams,
    TrainParams,
)

__all__ = [
    "BackboneParams",
    "DecoderParams",
    "Params",
    "PresetParams",
    "PromptParams",
    "TowerParams",
    "TrainParams",
    "changed",
    "load_params",
]

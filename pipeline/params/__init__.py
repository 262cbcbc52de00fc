"""The parameters: params.yaml, checked, as frozen objects."""

from pipeline.params.changes import changed
from pipeline.params.schema import (
    BackboneParams,
    DecoderParams,
    Params,
    PresetParams,
    PromptParams,
    TowerParams,
    TrainParams,
    load_params,
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

"""The parameters: params.yaml, checked, as frozen objects."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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


def __getattr__(name: str):
    """Each of them when it is first asked for: detection does without pydantic."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = {"changed": "changes", "load_params": "load"}.get(name, "schema")
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)

"""The parameters: params.yaml, checked, as frozen objects."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.params.changes import changed
    from pipeline.params.load import load_params
    from pipeline.params.schema import (
        BackboneParams,
        DecoderParams,
        EquiSymParams,
        Params,
        PresetParams,
        PromptParams,
        TowerParams,
        TrainParams,
    )

__all__ = [
    "BackboneParams",
    "DecoderParams",
    "EquiSymParams",
    "Params",
    "PresetParams",
    "PromptParams",
    "TowerParams",
    "TrainParams",
    "changed",
    "load_params",
]


def __getattr__(name: str) -> Any:
    """These names, when they are first asked for: `symmetry detect` reads `choices` only, and pydantic is an extra."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = {"changed": "changes", "load_params": "load"}.get(name, "schema")
    return getattr(import_module(f"pipeline.params.{module}"), name)

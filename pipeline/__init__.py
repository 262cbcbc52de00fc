"""CLIPSym (ICCV 2025): reflection axes and rotation centres in photographs."""

__all__ = ["detect", "load"]


def __getattr__(name: str):
    """`detect` and `load`, when they are first asked for: the stages do without."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pipeline.inference import detector as predictor

    return getattr(predictor, name)

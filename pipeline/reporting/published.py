"""Published figures. Each is written once, here; docs/method.md ("Published figures") shows the same tables.

Source: CLIPSym (arXiv 2508.14197). Its own F1 on DENDI and that with MetaCLIP were read in the paper. All others, those
of PMCNet (ICCV 2021) and EquiSym (CVPR 2022) too, were read in two independent notes on the paper, which agree.
"""

import pandas as pd

CLIPSYM, METACLIP = "CLIPSym", "CLIPSym, MetaCLIP"
NO_TEXT, PLAIN = "CLIPSym, no text", "CLIPSym, plain upsampler"

# F1 in per cent on the real test sets; None where no figure is known.
_FIGURES = pd.DataFrame(
    [
        ("PMCNet", 53.8, None, 40.8, 30.5, 33.8),
        ("EquiSym", 61.7, 22.0, 48.2, 37.7, 41.1),
        (CLIPSYM, 66.5, 25.1, 51.8, 39.5, 42.8),
        (METACLIP, 66.7, None, None, None, None),
        (NO_TEXT, 63.7, 17.7, None, None, None),
        (PLAIN, 62.9, 24.2, None, None, None),
        ("from scratch", 32.1, None, None, None, None),
        ("prompt: reflection axis", 64.4, None, None, None, None),
        ("prompt: symmetry axes in the image", 64.8, None, None, None, None),
        ("one prompt of 25 objects", 65.8, None, None, None, None),
        ("M = 25, K = 1", 65.3, None, None, None, None),
        ("M = 25, K = 16", 65.9, None, None, None, None),
        ("M = 50, K = 4", 65.4, None, None, None, None),
        ("no tower trained", 59.4, None, None, None, None),
        ("text tower trained", 58.9, None, None, None, None),
        ("image tower trained", 65.3, None, None, None, None),
    ],
    columns=["method", "dendi reflection", "dendi rotation", "sdrw reflection", "ldrs reflection", "mixed reflection"],
).set_index("method")

# sAP@5, 10 and 15 in per cent of AxisSym (ICCV 2025) on the real DENDI, from the README of its released code.
SAP = {"axes": (18.7, 22.7, 24.7), "centres": (36.8, 39.1, 40.0), "folds": (26.6, 28.3, 28.9)}

SOURCE = {"F1": "CLIPSym, arXiv 2508.14197", "sAP": "README of github.com/wongyun-yu/AxisSym"}  # where it was read

PUBLISHED = _FIGURES.loc[:PLAIN]  # the methods that the report lists
ABLATIONS = _FIGURES.loc["from scratch":, "dendi reflection"]  # of CLIPSym, each with one change

# On DENDI's axes, images and truth turned by up to 45 degrees: F1 in per cent, and consistency, lower is better.
TURNED = pd.DataFrame(
    [("PMCNet", 52.2, 0.417), ("EquiSym", 57.1, 0.244), (PLAIN, 58.3, 0.093), (CLIPSYM, 59.7, 0.082)],
    columns=["method", "F1", "consistency"],
).set_index("method")

# Preset -> the values of all keys that its cells set but the seed, in their order -> the method that they make.
_METHODS: dict[str, dict[tuple, str]] = {
    "grid": {
        ("clip", "sapg", "equivariant"): CLIPSYM,
        ("clip", "none", "equivariant"): NO_TEXT,
        ("clip", "sapg", "plain"): PLAIN,
        ("metaclip", "sapg", "equivariant"): METACLIP,
    },
    "pretraining": {("clip",): CLIPSYM, ("metaclip",): METACLIP, ("vit_scratch",): "from scratch"},
    "prompts": {
        ("sapg",): CLIPSYM,
        ("reflection_axis",): "prompt: reflection axis",
        ("symmetry_axes",): "prompt: symmetry axes in the image",
        ("objects_25",): "one prompt of 25 objects",
        ("none",): NO_TEXT,
    },
    "prompt_size": {
        ("sapg", 25, 1): "M = 25, K = 1",
        ("sapg", 25, 4): CLIPSYM,
        ("sapg", 25, 16): "M = 25, K = 16",
        ("sapg", 50, 4): "M = 50, K = 4",
    },
    "encoders": {
        ("frozen", "frozen"): "no tower trained",
        ("frozen", "trained"): "text tower trained",
        ("trained", "frozen"): "image tower trained",
        ("trained", "trained"): CLIPSYM,
    },
    "upsampler": {("equivariant",): CLIPSYM, ("plain",): PLAIN},
    "group": {("equivariant", "C8"): CLIPSYM},
}


def published(method: str, test_set: str, task: str) -> float | None:
    """The published F1 of a method in per cent; None where none is known."""
    column = f"{test_set} {task}"
    if method not in _FIGURES.index or column not in _FIGURES or pd.isna(_FIGURES.at[method, column]):
        return None
    return float(_FIGURES.at[method, column])


# Preset -> task -> values -> F1 in per cent on the real DENDI.
PUBLISHED_CELLS: dict[str, dict[str, dict[tuple, float]]] = {
    preset: {
        task: {
            values: figure
            for values, method in methods.items()
            if (figure := published(method, "dendi", task)) is not None
        }
        for task in ("reflection", "rotation")
    }
    for preset, methods in _METHODS.items()
}

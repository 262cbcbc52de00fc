"""Published figures: F1 in per cent on the real test sets (METHOD section 9)."""

import pandas as pd

# Published F1 on the real test sets; None where no figure is known. All but CLIPSym's own on DENDI and MetaCLIP's are
# taken from papers that cite them.
PUBLISHED = pd.DataFrame(
    [
        ("PMCNet", 53.8, None, 40.8, 30.5, 33.8),
        ("EquiSym", 61.7, 22.0, 48.2, 37.7, 41.1),
        ("CLIPSym", 66.5, 25.1, 51.8, 39.5, 42.8),
        ("CLIPSym, MetaCLIP", 66.7, None, None, None, None),
        ("CLIPSym, no text", 63.7, 17.7, None, None, None),
        ("CLIPSym, plain upsampler", 62.9, 24.2, None, None, None),
    ],
    columns=["method", "dendi reflection", "dendi rotation", "sdrw reflection", "ldrs reflection", "mixed reflection"],
).set_index("method")

# Published F1 in per cent on the real DENDI, of a ViT-B/16 (METHOD section 9), by preset, task and the values
# of all keys that its cells set but the seed, in their order.
PUBLISHED_CELLS: dict[str, dict[str, dict[tuple, float]]] = {
    "grid": {
        "reflection": {
            ("clip", "sapg", "equivariant"): 66.5,
            ("clip", "none", "equivariant"): 63.7,
            ("clip", "sapg", "plain"): 62.9,
            ("metaclip", "sapg", "equivariant"): 66.7,
        },
        "rotation": {
            ("clip", "sapg", "equivariant"): 25.1,
            ("clip", "none", "equivariant"): 17.7,
            ("clip", "sapg", "plain"): 24.2,
        },
    },
    "pretraining": {
        "reflection": {("clip",): 66.5, ("metaclip",): 66.7, ("vit_scratch",): 32.1},
        "rotation": {("clip",): 25.1},
    },
    "prompts": {
        "reflection": {
            ("sapg",): 66.5,
            ("reflection_axis",): 64.4,
            ("symmetry_axes",): 64.8,
            ("objects_25",): 65.8,
            ("none",): 63.7,
        },
        "rotation": {("sapg",): 25.1, ("none",): 17.7},
    },
    "prompt_size": {
        "reflection": {
            ("sapg", 25, 1): 65.3,
            ("sapg", 25, 4): 66.5,
            ("sapg", 25, 16): 65.9,
            ("sapg", 50, 4): 65.4,
        }
    },
    "encoders": {
        "reflection": {
            ("frozen", "frozen"): 59.4,
            ("frozen", "trained"): 58.9,
            ("trained", "frozen"): 65.3,
            ("trained", "trained"): 66.5,
        }
    },
    "upsampler": {
        "reflection": {("equivariant",): 66.5, ("plain",): 62.9},
        "rotation": {("equivariant",): 25.1, ("plain",): 24.2},
    },
    "group": {"reflection": {("equivariant", "C8"): 66.5}, "rotation": {("equivariant", "C8"): 25.1}},
}


def published(method: str, test_set: str, task: str) -> float | None:
    """The published F1 of a method in per cent; None where none is known."""
    column = f"{test_set} {task}"
    return PUBLISHED[column].get(method) if column in PUBLISHED else None

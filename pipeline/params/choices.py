"""The names that parameters choose from."""

from typing import Literal

Task = Literal["reflection", "rotation"]
Family = Literal["lite", "open_clip", "equisym"]
Dataset = Literal["dendi", "sdrw", "ldrs", "nyu", "photos", "own"]
Validation = Literal["held_out", "released"]
PromptKind = Literal[
    "sapg", "released", "file", "reflection_axis", "symmetry_axes", "objects_25", "random_letters", "none"
]
UpsamplerKind = Literal["equivariant", "plain"]
Group = Literal["C4", "C8", "C16", "D4", "D8"]  # C: rotations; D: rotations and reflections
Precision = Literal["fp32", "bf16", "fp16"]
TowerUse = Literal["trained", "frozen"]
Schedule = Literal["exp", "constant", "step", "cos", "cooldown"]
Augmentation = Literal["released", "turned", "tilted", "any"]
Targets = Literal["released", "clipped"]
Reproducible = Literal["anywhere", "machine"]
Start = Literal["shipped", "pretrained"]

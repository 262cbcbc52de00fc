"""escnn 1.0.11 (torch 2.14): an R2Conv of 3 x 3 pixels for D8 whose dilation is 12, as EquiSym's ASPP has them, with
`frequencies_cutoff=lambda r: 3 * r`, as EquiSym has it.

Guessed: every function of the basis commutes with the group, as those of e2cnn 0.2.3 for the same arguments do, and
the dilation changes nothing but the distance of the pixels.
Seen: the mirrored filter differs from the filter with permuted channels by 0.1, where its largest number is 0.12. There
are 1,104 functions (e2cnn: 1,148) of rank 176 (e2cnn: 144). With frequencies up to 4 there are 144, of rank 144, all
steerable, and they span what e2cnn's 1,148 span: eight directions cannot tell higher frequencies apart. From dilation 4
on the corners of the 3 x 3 pixels are nearly or exactly zero, because they lie too far from the basis's ring.
"""

import numpy as np

from pipeline.model.equivariant import group_space
from pipeline.model.escnn import nn as enn

SPACE, DILATION = group_space("D8"), 12
FIELD = enn.FieldType(SPACE, [SPACE.regular_repr])
MIRRORED = [8 + -e % 8 for e in range(8)] + [-e % 8 for e in range(8)]  # where x -> -x leads the channels

for highest in (36, 12, 4):
    conv = enn.R2Conv(
        FIELD, FIELD, 3, dilation=DILATION, padding=DILATION, bias=False, recompute=True,
        frequencies_cutoff=lambda radius: min(3 * radius, highest),  # noqa: B023  # it is called at once
    )  # fmt: skip
    (block,) = (module for name, module in conv.basisexpansion.named_children() if name.startswith("block"))
    basis = block.sampled_basis.double().numpy().reshape(-1, 16, 16, 3, 3)
    permuted = np.empty_like(basis)
    permuted[np.ix_(range(len(basis)), MIRRORED, MIRRORED)] = basis
    rank = np.linalg.matrix_rank(basis.reshape(len(basis), -1), tol=1e-3)
    error, corner = abs(permuted - basis[..., ::-1]).max(), abs(basis[..., ::2, ::2]).max()
    print(f"frequencies to {highest}: {len(basis)} functions of rank {rank};", end=" ")
    print(f"mirrored, off by {error:.1e}; corners {corner:.0e}")

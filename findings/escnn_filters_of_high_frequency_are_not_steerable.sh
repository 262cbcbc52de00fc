#!/usr/bin/env bash
# escnn==1.0.11 (torch 2.14.1, Python 3.11), beside what e2cnn==0.2.3 was seen to do apart from this script: the basis
# of an R2Conv of 3 x 3 pixels for D8, regular fields, dilation 12, frequencies_cutoff=lambda r: 3 * r (as EquiSym's
# ASPP has it).
# Guess: every function of the basis commutes with the group, the dilation changes nothing but the distance of the
# pixels, and the two libraries, of which escnn is the successor, have the same functions.
# Seen: escnn's filter, mirrored, differs from the one with permuted channels by 0.1, where its largest number is 0.12;
# e2cnn's does not. escnn has 1,104 functions of rank 176, e2cnn 1,148 of rank 144. Up to frequency 4 escnn has 144, of
# rank 144, all steerable: eight directions cannot tell higher frequencies apart.
# Output seen:
#   escnn, cutoff 3r: 1104 functions, rank 176, mirrored off by 0.1
#   escnn, cutoff min(3r, 12): 368 functions, rank 144, mirrored off by 0.0
#   escnn, cutoff min(3r, 4): 144 functions, rank 144, mirrored off by 0.0
set -euo pipefail
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
cd "$WORK"
python3 -m venv venv
venv/bin/pip install --quiet torch==2.14.1 scipy numpy joblib pymanopt autograd
venv/bin/pip install --quiet --no-deps escnn==1.0.11
cat > basis.py <<'P'
import sys, types
so3 = "lie_learn.representations.SO3"
for name in "lie_learn", "lie_learn.representations", so3, f"{so3}.wigner_d":
    sys.modules[name] = types.ModuleType(name)  # for SO(3) only; no wheels for NumPy 2
sys.modules[name].wigner_D_matrix = None
sys.modules["py3nj"] = types.ModuleType("py3nj")  # the same; wants a Fortran compiler
import numpy as np
from escnn import gspaces, nn

space = gspaces.flipRot2dOnR2(8)
field = nn.FieldType(space, [space.regular_repr])
mirrored = [8 + -e % 8 for e in range(8)] + [-e % 8 for e in range(8)]  # where x -> -x leads the channels
for name, highest in ("3r", 1e9), ("min(3r, 12)", 12), ("min(3r, 4)", 4):
    conv = nn.R2Conv(field, field, 3, dilation=12, padding=12, bias=False, recompute=True,
                     frequencies_cutoff=lambda r: min(3 * r, highest))
    (block,) = (m for n, m in conv.basisexpansion.named_children() if n.startswith("block"))
    basis = block.sampled_basis.double().numpy().reshape(-1, 16, 16, 3, 3)
    permuted = np.empty_like(basis)
    permuted[np.ix_(range(len(basis)), mirrored, mirrored)] = basis
    rank = np.linalg.matrix_rank(basis.reshape(len(basis), -1), tol=1e-3)
    off = abs(permuted - basis[..., ::-1]).max()
    print(f"escnn, cutoff {name}: {len(basis)} functions, rank {rank}, mirrored off by {off:.1f}")
P
venv/bin/python basis.py 2>/dev/null | tee seen
diff seen - <<'S'
escnn, cutoff 3r: 1104 functions, rank 176, mirrored off by 0.1
escnn, cutoff min(3r, 12): 368 functions, rank 144, mirrored off by 0.0
escnn, cutoff min(3r, 4): 144 functions, rank 144, mirrored off by 0.0
S

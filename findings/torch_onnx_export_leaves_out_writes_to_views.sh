#!/usr/bin/env bash
# torch==2.14.1 with onnx==1.23.2, onnxscript==0.7.2 and onnxruntime==1.32.0 (Python 3.11): torch.onnx.export(...,
# dynamo=False) of a module that adds in place to a part of a tensor.
# Guess: the graph does what torch.jit.trace's does, of which it is made; or the export is refused.
# Seen: of y[:, :, 0:3].add_(1) it does. Where the same slice has a name first, what is added is left out of the graph,
# and likewise through narrow, chunk and flatten; nothing says so: no error, and no other warnings than those of every
# such export (that it is the old exporter). torch.jit.trace and the exporter of dynamo=True are right in all of them.
# Output seen:
#   slice: dynamo=False off by 0, dynamo=True off by 0, torch.jit.trace off by 0
#   named slice: dynamo=False off by 1, dynamo=True off by 0, torch.jit.trace off by 0
#   narrow: dynamo=False off by 1, dynamo=True off by 0, torch.jit.trace off by 0
#   chunk: dynamo=False off by 1, dynamo=True off by 0, torch.jit.trace off by 0
#   flatten: dynamo=False off by 1, dynamo=True off by 0, torch.jit.trace off by 0
#   all give the same warnings
set -euo pipefail
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
cd "$WORK"
python3 -m venv venv
venv/bin/pip install --quiet torch==2.14.1 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0 numpy
cat > views.py <<'P'
import io
import warnings

import numpy as np
import onnxruntime
import torch


def add_to_slice(y):
    y[:, :, 0:3].add_(1)


def add_to_named_slice(y):
    part = y[:, :, 0:3]
    part.add_(1)


ADD = {
    "slice": add_to_slice,
    "named slice": add_to_named_slice,
    "narrow": lambda y: y.narrow(2, 0, 3).add_(1),
    "chunk": lambda y: y.chunk(2, 2)[0].add_(1),
    "flatten": lambda y: y.flatten(2).add_(1),
}


class Adds(torch.nn.Module):
    def __init__(self, name):
        super().__init__()
        self.add = ADD[name]

    def forward(self, x):
        y = x * 1
        self.add(y)
        return y


def graph(module, x, dynamo):
    file = io.BytesIO()
    if dynamo:
        torch.onnx.export(module, (x,), dynamo=True, verbose=False).save(file)
    else:
        torch.onnx.export(module, (x,), file, dynamo=False)
    session = onnxruntime.InferenceSession(file.getvalue())
    return session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]


x, warned = torch.rand(1, 4, 4, 4), []
for name in ADD:
    module = Adds(name).eval()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        old = graph(module, x, False)
    warned.append({str(warning.message) for warning in said})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        others = graph(module, x, True), torch.jit.trace(module, x)(x).numpy()
    first, second, third = (round(float(np.abs(y - module(x).numpy()).max())) for y in (old, *others))
    print(f"{name}: dynamo=False off by {first}, dynamo=True off by {second}, torch.jit.trace off by {third}")
print("all give the same warnings" if all(some == warned[0] for some in warned) else warned)
P
venv/bin/python views.py 2>/dev/null | tee seen
diff seen - <<'S'
slice: dynamo=False off by 0, dynamo=True off by 0, torch.jit.trace off by 0
named slice: dynamo=False off by 1, dynamo=True off by 0, torch.jit.trace off by 0
narrow: dynamo=False off by 1, dynamo=True off by 0, torch.jit.trace off by 0
chunk: dynamo=False off by 1, dynamo=True off by 0, torch.jit.trace off by 0
flatten: dynamo=False off by 1, dynamo=True off by 0, torch.jit.trace off by 0
all give the same warnings
S

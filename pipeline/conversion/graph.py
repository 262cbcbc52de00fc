"""A model as an ONNX graph: the heat map of letterboxed images, of any number, and of any size where the model can."""

import json
import warnings
from io import BytesIO
from pathlib import Path

import torch
from torch import nn

from pipeline.errors import needs
from pipeline.model.backbones.lite import LiteTower
from pipeline.model.base import Model

STRIDE = 16  # sides that a model of the family lite takes are multiples of it
OPSET = 17


class HeatMap(nn.Module):
    """What is exported: `image`, RGB float [B, 3, S, S] in 0..1, letterboxed -> `heatmap`, [B, 1, S, S] in 0..1."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model
        self.training = model.training  # PyTorch's exporter leaves the model in the mode that it found here

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """[B, 3, S, S] -> [B, 1, S, S]."""
        return self.model(image).sigmoid()


def any_size(model: Model, *sizes: int) -> bool:
    """Whether the graph of a model takes images of these sizes; then it takes all that are multiples of STRIDE."""
    return isinstance(getattr(model, "image_tower", None), LiteTower) and all(size % STRIDE == 0 for size in sizes)


def graph(model: Model, size: int, fold: bool = True) -> bytes:
    """The model as ONNX, its weights inside; `fold`: what does not depend on the image is computed now."""
    names = {0: "batch", 2: "height", 3: "width"} if any_size(model, size) else {0: "batch"}
    buffer = BytesIO()
    with needs("'clipsym-pipeline[export]'"):
        import onnx  # noqa: F401  # which PyTorch's exporter imports, late
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of sizes that it takes as they are, and of its age
        torch.onnx.export(  # a buffer: only the new exporter, which is not used here, wants a path
            HeatMap(model), (torch.rand(2, 3, size, size),), buffer,  # type: ignore[arg-type]
            input_names=["image"], output_names=["heatmap"], dynamic_axes={"image": names, "heatmap": names},
            opset_version=OPSET, do_constant_folding=fold, dynamo=False,
        )  # fmt: skip
    return buffer.getvalue()


def graph_beside(model: Model, size: int, weights: Path) -> bytes:
    """The same, but its weights are those of `weights`, a file of safetensors in the folder that the graph is put into.

    They are read as they lie there, in 16 bits, and cast where they are used, which runtimes do once. `model` is in
    32 bits and has the same weights.
    """
    import onnx
    from onnx import TensorProto, helper

    content = weights.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    lying = json.loads(content[8:start])
    proto = onnx.load_from_string(graph(model, size, fold=False))
    casts = []
    for tensor in proto.graph.initializer:
        name = tensor.name.removeprefix("model.")
        if name not in lying:
            continue
        casts.append(helper.make_node("Cast", [name], [tensor.name], to=TensorProto.FLOAT))
        first, end = lying[name]["data_offsets"]
        kind = {"F16": TensorProto.FLOAT16, "F32": TensorProto.FLOAT}[lying[name]["dtype"]]
        tensor.CopyFrom(TensorProto(name=name, dims=tensor.dims, data_type=kind, data_location=TensorProto.EXTERNAL))
        for key, value in (("location", weights.name), ("offset", start + first), ("length", end - first)):
            tensor.external_data.add(key=key, value=str(value))
    nodes = [*casts, *proto.graph.node]
    for node in nodes:
        node.ClearField("name")  # they are long, and nobody reads them
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    return proto.SerializeToString()

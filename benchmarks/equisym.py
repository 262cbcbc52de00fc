"""EquiSym for use beside the layers of escnn that it is made of: `python -m benchmarks.equisym`. Prints Markdown.

One image of 417 pixels, the released model's depth and orientations, random weights, on the CPU: the layers of escnn in
evaluation mode, as they stand; the same folded into plain convolutions; and ours.
"""

from collections.abc import Callable
from functools import partial
from time import process_time

import torch
from torch import nn

from pipeline.runtime.process import keep_memory

keep_memory()

from benchmarks.timing import shown
from pipeline.model.equisym.layers import FOLDED, Kind, PixelConv
from pipeline.model.equisym.model import folded_model
from pipeline.model.equisym.network import Network
from pipeline.model.equivariant import group_space
from pipeline.model.escnn import nn as enn
from pipeline.params import EquiSymParams

SPACE, RUNS = group_space("D8"), 5
SHAPE = EquiSymParams(family="equisym", version="steerable", depth=50, orientations=8, input_size=417)


def field_type(channels: int) -> enn.FieldType:
    """An image's, of one of features, or of maps without direction."""
    regular = channels % SPACE.fibergroup.order() == 0
    return enn.FieldType(SPACE, [SPACE.regular_repr] * (channels // 16) if regular else [SPACE.trivial_repr] * channels)


class Layer(nn.Module):
    """R2Conv, and InnerBatchNorm except for maps without direction."""

    def __init__(self, channels: int, out_channels: int, kernel: int = 1, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        types = field_type(channels), field_type(out_channels)
        self.conv = enn.R2Conv(
            *types, kernel, stride=stride, dilation=dilation, padding=kernel // 2 * dilation, bias=False,
            frequencies_cutoff=lambda radius: min(3 * radius, 4 if kernel == 3 else 9), initialize=False,
        )  # fmt: skip
        fan = channels * kernel**2
        self.conv.weights.data.normal_(std=(out_channels * fan / self.conv.weights.numel()) ** 0.5 / fan**0.5)
        self.norm = enn.InnerBatchNorm(types[1]) if out_channels % 16 == 0 else enn.IdentityModule(types[1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, h, w] -> [B, C', h', w']."""
        return self.norm(self.conv(enn.GeometricTensor(x, self.conv.in_type))).tensor

    def folded(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The filter and the bias of the plain convolution: the statistics are those of a fresh normalisation."""
        scale = 1 if isinstance(self.norm, enn.IdentityModule) else (1 + self.norm.eps) ** -0.5
        return self.conv.filter * scale, torch.zeros(len(self.conv.filter))


def main() -> None:
    """Print the table."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    network = Network(Kind(Layer, Layer, Layer, multigrid=False), SHAPE.depth, SHAPE.orientations).eval()
    plain = Network(Kind(FOLDED["plain"].layer, PixelConv, PixelConv, multigrid=False), SHAPE.depth, SHAPE.orientations)
    with torch.no_grad():
        for name, module in network.named_modules():
            if isinstance(module, Layer):
                twin: nn.Module = plain.get_submodule(name)
                twin.load_state_dict(dict(zip(("weight", "bias"), module.folded())))
        ours = folded_model(SHAPE, lambda name, _: network.get_submodule(name).folded()).network
        image = torch.randn(1, 3, SHAPE.input_size, SHAPE.input_size)
        expected = network(image)[0]
        print("| on one thread | processor time | ratio, run by run | logits differ by, of the largest |")
        print("|---|---|---|---|")
        times = [processor_seconds(partial(infer, network, image)) for _ in range(RUNS)]
        print(f"| layers of escnn, evaluation mode | {shown(times)} | 1 | |")
        for name, twin in (("plain convolutions", plain), ("ours", ours)):
            difference = float((twin(image)[0] - expected).abs().max() / expected.abs().max())
            found = [[processor_seconds(partial(infer, one, image)) for one in (network, twin)] for _ in range(RUNS)]
            ratios, times = sorted(before / after for before, after in found), [after for _, after in found]
            spread = f"{ratios[RUNS // 2]:.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f})"
            print(f"| {name} | {shown(times)} | {spread} | {difference:.0e} |", flush=True)


def processor_seconds(call: Callable[[], None]) -> float:
    """Of one call on one thread; other work on the machine does not count."""
    start = process_time()
    call()
    return process_time() - start


def infer(network: nn.Module, image: torch.Tensor) -> None:
    """One forward pass."""
    with torch.inference_mode():
        network(image)


if __name__ == "__main__":
    main()

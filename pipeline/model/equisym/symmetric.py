"""Convolutions between regular fields of D8, at a quarter of the multiply-adds of the same plain convolutions.

Four symmetries of a steerable filter move its pixels onto pixels: the identity, x -> -x, y -> -y and the half turn (of
those by 90 degrees no use is made). They permute the 16 channels of a field. Of sums and differences over these
permutations there are four kinds, the group's characters, told apart by whether they change sign with x and with y.
From one character to another a filter is even or odd in x and in y, so that one number serves two or four of its
pixels. The channels are mixed first, for each of these numbers; then the results are shifted to the pixels around.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.model.kernels import mix_channels

FIELD = 16  # channels: rotations by 0 to 7 eighths, then the same after the reflection x -> -x
SIGNS = torch.tensor([[1.0, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2  # its own inverse
# Where the four symmetries lead each of the first channel, and of its neighbours by one, two and three eighths.
MOVED = torch.tensor([[e, 8 + -e % 8, 8 + (4 - e) % 8, (4 + e) % 8] for e in range(4)]).T
CROSS = 12  # dilation from which the corners of 3 x 3 pixels are zero: they lie too far from the ring of the basis
IN_X, IN_Y = 1, 2  # bits of a character's number
CENTRE, EVEN, ODD = range(3)
NUMBERS = {  # in y and in x, by how many there are
    1: [(CENTRE, CENTRE)],
    5: [(CENTRE, CENTRE), (CENTRE, EVEN), (CENTRE, ODD), (EVEN, CENTRE), (ODD, CENTRE)],
    9: [(row, column) for row in range(3) for column in range(3)],
}
TOLERANCE = 1e-4  # of a filter's symmetry, relative to its largest number


def ordered(channels: int) -> torch.Tensor:
    """Places of the channels of regular fields in the order of this module: [4 symmetries, C / 4], flat.

    Those of an image and of maps without direction, which are no multiple of 16, stay where they are.
    """
    if channels % FIELD:
        return torch.arange(channels)
    fields = torch.arange(0, channels, FIELD)
    return (fields[:, None] + MOVED[:, None]).flatten()


class SymmetricConv(nn.Module):
    """[B, C, h, w] -> [B, C', h', w'], channels in the order of `ordered`, with a filter of 1 or 3 x 3 pixels.

    `weight`, [4, K C' / 4, C / 4]: by the input's character the numbers of the filter: in the centre; for 3 x 3, the
    pairs in x, even and odd, those in y, and for both the corners. `bias`, [C' / 4]: of the first character, whose
    signs are all plus; of the others there is none, for it is the same in all channels of a field. For use only: no
    gradient passes.
    """

    def __init__(self, channels: int, out_channels: int, kernel: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.shape = torch.Size([out_channels, channels, kernel, kernel])
        self.stride, self.dilation = stride, dilation
        self.cross = dilation >= CROSS
        self.numbers = 1 if kernel == 1 else 5 if self.cross else 9
        self.weight = nn.Parameter(torch.zeros(4, self.numbers, out_channels // 4, channels // 4))
        self.bias = nn.Parameter(torch.zeros(out_channels // 4))
        self.register_buffer("signs", SIGNS, persistent=False)

    signs: torch.Tensor

    @torch.no_grad()
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, h, w] -> [B, C', h', w']."""
        if self.numbers == 1:
            x = x[..., :: self.stride, :: self.stride]
        height, width = x.shape[-2:]
        characters = torch.matmul(self.signs, x.reshape(len(x), 4, -1)).view(len(x), 4, -1, height, width)
        if self.numbers == 9:
            characters = F.pad(characters, (0, self.dilation))  # so that what is shifted out of a row is zero
        weights = self.weight.flatten(1, 2)[..., None, None]
        biases = F.pad(self.bias, (0, weights.shape[1] - len(self.bias))), None, None, None
        products = [mix_channels(*parts) for parts in zip(characters.unbind(1), weights, biases)]
        if self.numbers > 1:
            spread = self.spread(*(product.chunk(self.numbers, dim=1) for product in products))
            products = [part[..., :: self.stride, : width : self.stride] for part in spread]
        mixed = torch.stack(products, dim=1)
        return torch.matmul(self.signs, mixed.flatten(2)).view(len(x), -1, *mixed.shape[-2:])

    def spread(self, *products: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
        """Four times K of [B, C' / 4, h, w] -> four of these, the numbers' products added where their pixels are."""
        numbers = [list(number) for number in zip(*products)]
        if self.cross:
            centre, even_x, odd_x, even_y, odd_y = numbers
            add_pairs(centre, even_x, odd_x, IN_X, -1, self.dilation)
            add_pairs(centre, even_y, odd_y, IN_Y, -2, self.dilation)
        else:
            flat = [[part.flatten(-2) for part in number] for number in numbers]
            for k in (0, 3, 6):
                add_pairs(flat[k], flat[k + 1], flat[k + 2], IN_X, -1, self.dilation)
            add_pairs(flat[0], flat[3], flat[6], IN_Y, -1, self.dilation * products[0][0].shape[-1])
            numbers[0] = [part.unflatten(-1, whole.shape[-2:]) for part, whole in zip(flat[0], numbers[0])]
        return numbers[0]

    @torch.no_grad()
    def take(self, weight: torch.Tensor, bias: torch.Tensor, name: str) -> None:
        """Become the convolution with a filter [C', C, k, k] and a bias [C'], channels in the order of `ordered`.

        name: of the layer, for the ValueError that is raised where the filter lacks the symmetries
        """
        parts = weight.unflatten(1, (4, -1)).unflatten(0, (4, -1))
        filters = torch.einsum("uv,vowiyx,wz->zuoiyx", SIGNS, parts, SIGNS)  # by characters of input and output
        if not self.symmetric(filters) or bias.view(4, -1).diff(dim=0).any():
            raise ValueError(f"{name}: its filter or bias is not steerable: it differs from its turn or reflection")
        places = (0, 0) if weight.shape[-1] == 1 else (1, 2)  # of the centre, and of the pixel behind it
        taken = [
            filters[z, z ^ (IN_Y * (row == ODD) + IN_X * (column == ODD)), :, :, places[row > 0], places[column > 0]]
            for z in range(4)
            for row, column in NUMBERS[self.numbers]
        ]
        self.weight.copy_(torch.stack(taken).view_as(self.weight))
        self.bias.copy_(SIGNS[0] @ bias.view(4, -1))

    def symmetric(self, filters: torch.Tensor) -> bool:
        """Whether filters [4, 4, C' / 4, C / 4, k, k] are even and odd as their characters say, and zero where they
        must be.
        """
        sign = torch.tensor([[(-1.0) ** ((z ^ u) >> bit & 1) for z in range(4) for u in range(4)] for bit in (0, 1)])
        in_x, in_y = sign.view(2, 4, 4, 1, 1, 1, 1)
        wrong = [filters - in_x * filters.flip(-1), filters - in_y * filters.flip(-2)]
        if self.cross:
            wrong.append(filters[..., ::2, ::2])
        return max(float(part.abs().max()) for part in wrong) <= TOLERANCE * float(filters.abs().max())


def add_pairs(
    total: list[torch.Tensor],
    even: Sequence[torch.Tensor],
    odd: Sequence[torch.Tensor],
    direction: int,
    dim: int,
    distance: int,
) -> None:
    """Add to each pixel what those before and behind it contribute through even and odd numbers; overwrites `even`.

    All by character. Odd numbers lead to the one that differs in whether it changes its sign in this direction.
    """
    rest = total[0].shape[dim] - distance
    for own, (sum_, even_) in enumerate(zip(total, even)):
        other = odd[own ^ direction]
        if rest > 0 and torch.onnx.is_in_onnx_export():  # which leaves out what is done in place to a part
            empty = torch.zeros_like(sum_.narrow(dim, 0, distance))
            behind, before = (even_ + other).narrow(dim, distance, rest), (even_ - other).narrow(dim, 0, rest)
            total[own] = sum_ + torch.cat([behind, empty], dim) + torch.cat([empty, before], dim)
        elif rest > 0:
            sum_.narrow(dim, 0, rest).add_((even_ + other).narrow(dim, distance, rest))
            sum_.narrow(dim, distance, rest).add_(even_.sub_(other).narrow(dim, 0, rest))

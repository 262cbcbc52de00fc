"""The decoder's two-layer perceptron, whose hidden layer, 2,048 wide, is the largest array of all.

On the CPU and in float32 it is computed in blocks of rows that stay in the cache, and again for the gradient instead of
being kept: at M = 25 prompts and 417 pixels it would be 140 MB an image and layer.
"""

import torch
import torch.nn.functional as F

from pipeline.model.kernels.onednn import linear, weight_gradient

ROWS = 1024  # a block's hidden layer: 8 MB


def mlp(
    x: torch.Tensor, weight1: torch.Tensor, bias1: torch.Tensor, weight2: torch.Tensor, bias2: torch.Tensor
) -> torch.Tensor:
    """`linear(relu(linear(x, weight1, bias1)), weight2, bias2)`; x: [..., D]; weight1: [H, D]; weight2: [D, H]."""
    if x.device.type != "cpu" or torch.is_autocast_enabled("cpu") or torch.jit.is_tracing():
        return F.linear(F.linear(x, weight1, bias1).relu_(), weight2, bias2)
    return BlockwiseMLP.apply(x.reshape(-1, x.shape[-1]), weight1, bias1, weight2, bias2).view_as(x)


class BlockwiseMLP(torch.autograd.Function):
    """`mlp` of rows [N, D], forward and backward, block by block."""

    @staticmethod
    def forward(ctx, x, weight1, bias1, weight2, bias2):
        """[N, D] -> [N, D]."""
        ctx.save_for_backward(x, weight1, bias1, weight2)
        return torch.cat([linear(linear(rows, weight1, bias1).relu_(), weight2, bias2) for rows in x.split(ROWS)])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        """The gradients of all five, from that of the result, [N, D]."""
        x, weight1, bias1, weight2 = ctx.saved_tensors
        transposed1, transposed2 = weight1.T.contiguous(), weight2.T.contiguous()
        of_x, of_weight1, of_bias1, of_weight2 = (torch.zeros_like(t) for t in (x, weight1, bias1, weight2))
        for rows, of_output, of_rows in zip(x.split(ROWS), gradient.split(ROWS), of_x.split(ROWS)):
            hidden = linear(rows, weight1, bias1).relu_()
            of_hidden = linear(of_output, transposed2)
            of_weight2 += weight_gradient(of_output, hidden)
            of_hidden = torch.ops.aten.threshold_backward(of_hidden, hidden, 0)
            of_weight1 += weight_gradient(of_hidden, rows)
            of_bias1 += of_hidden.sum(0)
            of_rows.copy_(linear(of_hidden, transposed1))
        return of_x, of_weight1, of_bias1, of_weight2, gradient.sum(0)

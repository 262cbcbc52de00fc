"""docs/method.md in its plainest form, on the weights of our modules: what the fast paths are compared with.

As the released code does it: all twelve blocks of the image tower and the text tower at every forward, attention
through its matrix, bilinear upsampling before each convolution, a dilation for every threshold, training images decoded
and their targets painted anew in every epoch. The benchmarks time it; the tests take it as their oracle.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import correlate1d
from torch import nn
from torchvision.transforms import v2 as transforms

from pipeline.annotations import Sample
from pipeline.data.packed.targets import BLUR, BLUR_SIGMA, reflection_instances, rotation_orders
from pipeline.data.reading.images import read_photograph
from pipeline.geometry import Letterbox
from pipeline.model.clipsym import HEADS, CLIPSym, Decoder, DecoderLayer, LiftedUpsampler, PlainUpsampler
from pipeline.scoring.f1 import RADIUS, THRESHOLDS, F1Counts
from pipeline.training.loader import JITTER, JITTER_SHARE, TILT

DISC = np.hypot(*np.mgrid[-RADIUS : RADIUS + 1, -RADIUS : RADIUS + 1]) <= RADIUS


def clipsym(
    model: CLIPSym, clip: nn.Module, tokens: torch.Tensor, images: torch.Tensor, waste: bool = True
) -> torch.Tensor:
    """Logits [B, 1, S, S] of images [B, 3, S, S] in 0..1.

    clip: the whole model of open_clip, of the same weights; tokens: int [M, 77] of the prompts; waste: run the text
    tower and the blocks behind the last used one, as the released code does.
    """
    with torch.no_grad():
        text_embeddings = clip.encode_text(tokens, normalize=False) if waste else model.text_embeddings
    blocks = None if waste else model.image_tower.blocks[-1] + 1
    outputs = vision(clip.visual, model.image_tower.normalise(images), blocks)
    features = [outputs[number] for number in model.image_tower.blocks]
    logits = decoder(model.decoder, features, text_embeddings, clip.visual.grid_size)
    return F.interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=True)


def vision(visual: nn.Module, images: torch.Tensor, blocks: int | None) -> list[torch.Tensor]:
    """The outputs [B, 1 + h * w, C] of the first blocks, or of all, of a ViT of open_clip."""
    x = visual.conv1(images).flatten(2).transpose(1, 2)
    code = visual.class_embedding.expand(len(x), 1, -1)
    x, outputs = visual.ln_pre(torch.cat([code, x], dim=1) + visual.positional_embedding), []
    for block in visual.transformer.resblocks[:blocks]:
        part = block.attn
        projected = F.linear(block.ln_1(x), part.in_proj_weight, part.in_proj_bias)
        x = x + linear(part.out_proj, attention(*projected.chunk(3, dim=-1), part.num_heads))
        hidden = linear(block.mlp.c_fc, block.ln_2(x))
        x = x + linear(block.mlp.c_proj, hidden * (1.702 * hidden).sigmoid())
        outputs.append(x)
    return outputs


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int) -> torch.Tensor:
    """softmax(q k^T / sqrt(d)) v for each head; all [B, T, C]."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    weights = (q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])).softmax(-1)
    return (weights @ v).transpose(1, 2).flatten(2)


def decoder(
    module: Decoder, features: list[torch.Tensor], text_embeddings: torch.Tensor | None, grid: tuple[int, int]
) -> torch.Tensor:
    """Logits [B, 1, 16 h, 16 w]; arguments as those of `Decoder`."""
    deepest, *shallower = (linear(reduce, f) for reduce, f in zip(module.reduces, reversed(features)))
    if text_embeddings is None:
        sequences = [deepest]
    else:
        sequences = [linear(module.film_mul, z) * deepest + linear(module.film_add, z) for z in text_embeddings]
    x = decoder_layer(module.layers[0], torch.stack(sequences, dim=1).flatten(0, 1))
    for layer, feature in zip(module.layers[1:], shallower):
        x = decoder_layer(layer, x + feature.repeat_interleave(len(sequences), dim=0))
    x = x[:, -math.prod(grid) :].unflatten(0, (-1, len(sequences)))  # [B, M, h * w, D]
    combined = torch.einsum("bmtd,m->bdt", x, module.decoder_linear_map.weight.flatten())
    return upsampler(module.upsampler, (combined + module.decoder_linear_map.bias).unflatten(2, grid))


def decoder_layer(layer: DecoderLayer, x: torch.Tensor) -> torch.Tensor:
    """x = LN1(x + attention(x)); x = LN2(x + MLP(x)); [N, T, D]."""
    part, mlp = layer.self_attn, layer.mlp
    mixed = attention(linear(part.q_proj, x), linear(part.k_proj, x), linear(part.v_proj, x), HEADS)
    x = layer.layer_norm1(x + linear(part.out_proj, mixed))
    return layer.layer_norm2(x + linear(mlp["fc2"], linear(mlp["fc1"], x).relu()))


def linear(layer: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    """[..., C] -> [..., C']."""
    return F.linear(x, layer.weight, layer.bias)


def upsampler(module: LiftedUpsampler | PlainUpsampler, x: torch.Tensor) -> torch.Tensor:
    """[B, D, h, w] -> [B, 1, 16 h, 16 w]: each convolution at the size of its result."""
    if isinstance(module, PlainUpsampler):
        first, *others = ((layer.weight, layer.bias) for layer in module.values())
        x = convolution(*first, x)
        for layer in others:
            x = convolution(*layer, bilinear(x.relu(), len(others)))
        return x
    x = convolution(*module.lifting.expanded(), x)
    for layer in module.upsampler.values():
        x = convolution(*layer.expanded(), bilinear(x, len(module.upsampler))).relu()
    return convolution(*module.pool.expanded(), x)


def bilinear(x: torch.Tensor, layers: int) -> torch.Tensor:
    """One of so many steps, all alike, that together make the grid 16 times finer."""
    factor = round(16 ** (1 / layers))
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


def convolution(weight: torch.Tensor, bias: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """3x3, zeros around: [B, C, h, w] -> [B, C', h, w]."""
    return F.conv2d(x, weight, bias, padding=1)


def counts(heat_map: np.ndarray, truth: np.ndarray) -> F1Counts:
    """F1 counts of a heat map, float32 [H, W], and a mask, bool [H, W]: thresholded and dilated a hundred times."""
    truth, true, predicted = dilated(truth), [], []
    for threshold in THRESHOLDS:
        found = dilated(heat_map > threshold)
        true.append((found & truth).sum())
        predicted.append(found.sum())
    return F1Counts(np.array(true), np.array(predicted), int(truth.sum()))


def dilated(binary: np.ndarray) -> np.ndarray:
    """bool [H, W]: where the disc around a pixel meets the mask."""
    disc = torch.from_numpy(DISC).float()[None, None]
    return (F.conv2d(torch.from_numpy(binary).float()[None, None], disc, padding=RADIUS) > 0.5)[0, 0].numpy()


def prepared(sample: Sample, task: str, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Image, uint8 [3, S, S], and target, float32 [1, S, S], of one file: everything at native size, then resized."""
    image = read_photograph(sample.image).pixels
    letterbox = Letterbox(*image.shape[:2], size)
    pixels = torch.tensor(image).permute(2, 0, 1)[None].float()
    content = F.interpolate(pixels, letterbox.content, mode="bilinear", align_corners=False)[0].add_(0.5).byte()
    paint = {"reflection": reflection_instances, "rotation": rotation_orders}[task]
    marked = blurred(paint(sample.annotation, *image.shape[:2]) > 0, task)
    target = letterbox.placed(np.minimum(marked, np.float32(BLUR[task][1]))[np.ix_(*letterbox.sources)])
    square = letterbox.placed(content.permute(1, 2, 0).numpy())
    return torch.from_numpy(square).permute(2, 0, 1), torch.from_numpy(target / (target.max() + np.float32(1e-5)))[None]


def blurred(mask: np.ndarray, task: str) -> np.ndarray:
    """bool [H, W] -> float32: the Gaussian blur of all of the mask, borders mirrored."""
    side = BLUR[task][0]
    kernel = np.exp(-((np.arange(side) - side // 2) ** 2) / (2 * BLUR_SIGMA**2))
    kernel = (kernel / kernel.sum()).astype(np.float32)
    rows = correlate1d(mask.astype(np.float32), kernel, axis=0, mode="mirror")
    return correlate1d(rows, kernel, axis=1, mode="mirror")


def training_sample(sample: Sample, task: str, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """An augmented image [3, S, S] and target [1, S, S] from the image file and its annotation, step by step."""
    image, target = prepared(sample, task, size)
    image = image.float() / 255
    turns = int(torch.randint(4, ()))
    image, target = image.rot90(turns, (1, 2)), target.rot90(turns, (1, 2))
    tilt, bilinear = float(torch.empty(()).uniform_(-TILT, TILT)), transforms.InterpolationMode.BILINEAR
    image, target = (transforms.functional.rotate(x, tilt, interpolation=bilinear) for x in (image, target))
    if torch.rand(()) < JITTER_SHARE:
        image = transforms.ColorJitter(JITTER, JITTER, JITTER, JITTER)(image)
    return image, target

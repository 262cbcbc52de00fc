"""What is timed: the model in the paper's setting and in the default one, and an image to load."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import open_clip
import torch
from PIL import Image
from skimage import data
from torch import nn

from benchmarks import plain
from pipeline.annotations import Annotation, ReflectionAxis, ReflectionDisc, Sample
from pipeline.data.packed.split import PackedSplit
from pipeline.data.preparation.prepare import pack
from pipeline.model.backbones import clip
from pipeline.model.backbones.catalogue import random_image_tower
from pipeline.model.clipsym import CLIPSym, build_model
from pipeline.params import Params, load_params
from pipeline.training.loop import alpha_focal

ELLIPSE = ((0, -1), (0, 1), (-1, 0), (1, 0))  # top, bottom, left, right
PARAMS = load_params(Path(__file__).parents[1] / "params.yaml")


def paper(prompts: int = 25, size: int = 417) -> Params:
    """ViT-B/16, D = 64, C8."""
    entry = PARAMS.backbones["clip"].model_copy(update={"input_size": size})
    return PARAMS.model_copy(
        update={
            "backbone": "clip",
            "backbones": {"clip": entry},
            "prompts": PARAMS.prompts.model_copy(update={"count": prompts}),
            "decoder": PARAMS.decoder.model_copy(
                update={"width": 64, "upsampler": "equivariant", "group": "C8", "layers": 2}
            ),
            "train": PARAMS.train.model_copy(update={"precision": "fp32"}),
        }
    )


def random_model(params: Params, text_width: int = 512) -> CLIPSym:
    """A model of these parameters with random weights and text embeddings."""
    torch.manual_seed(0)
    embeddings = torch.randn(params.prompts.count, text_width)
    model = build_model(random_image_tower(params.chosen), embeddings, params.decoder, params.train.precision)
    model.image_tower.freeze(params.chosen.frozen)
    return model


@dataclass(frozen=True)
class Pair:
    """Our model in the paper's setting, and the whole CLIP of the same random weights for the plain formulation."""

    ours: CLIPSym
    clip: nn.Module
    tokens: torch.Tensor

    @classmethod
    def build(cls, params: Params, device: str = "cpu") -> "Pair":
        """Random weights; prompts of four words."""
        torch.manual_seed(0)
        whole = clip.open_clip_model(params.chosen, weights=None).eval()
        words = [f"cat dog tree house {n}" for n in range(params.prompts.count)]
        tokens = open_clip.get_tokenizer(params.chosen.model)(words)
        with torch.no_grad():
            embeddings = whole.encode_text(tokens)
        ours = build_model(random_image_tower(params.chosen), embeddings, params.decoder, "fp32").eval()
        state = whole.visual.state_dict()
        ours.image_tower.visual.load_state_dict({name: state[name] for name in ours.image_tower.visual.state_dict()})
        return cls(ours.to(device), whole.to(device), tokens.to(device))

    def plain(self, images: torch.Tensor, waste: bool = True) -> torch.Tensor:
        """The logits, by the plain formulation."""
        return plain.clipsym(self.ours, self.clip, self.tokens, images, waste)


def images(batch: int, size: int) -> torch.Tensor:
    """[B, 3, S, S] in 0..1."""
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(0))


def training_step(forward: Callable, parameters: list[nn.Parameter], batch: int, size: int) -> Callable[[], None]:
    """A function that does one step of Adam on random images and targets, where the parameters lie."""
    optimiser, device = torch.optim.Adam(parameters, lr=1e-5), parameters[0].device
    pictures, targets = images(batch, size).to(device), torch.rand(batch, 1, size, size, device=device)

    def step() -> None:
        optimiser.zero_grad()
        alpha_focal(forward(pictures), targets, PARAMS.train.alpha, PARAMS.train.gamma).mean().backward()
        optimiser.step()

    return step


def steps(pair: Pair, batch: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """A training step of the plain formulation and one of ours, in the paper's setting."""
    decoder = list(pair.ours.decoder.parameters())
    plainly = training_step(pair.plain, [*pair.clip.visual.parameters(), *decoder], batch, 417)
    tower = [p for p in pair.ours.image_tower.parameters() if p.requires_grad]
    return plainly, training_step(pair.ours, [*tower, *decoder], batch, 417)


def photographs(folder: Path, width: int, height: int, count: int) -> list[Sample]:
    """Photographs of one size, as JPEG files, with two axes and an ellipse each."""
    middle, radius = (width / 2, height / 2), height / 5
    disc = ReflectionDisc(tuple((middle[0] + x * radius, middle[1] + y * radius) for x, y in ELLIPSE))
    samples = []
    for number, source in zip(range(count), cycle((data.astronaut(), data.chelsea(), data.coffee(), data.rocket()))):
        path = folder / f"{number}.jpg"
        Image.fromarray(source).resize((width, height)).rotate(number).save(path, quality=92)
        axes = (ReflectionAxis(9, 9, width - 9, height - number), ReflectionAxis(middle[0], 9, middle[0], height - 9))
        samples.append(Sample(str(number), path, Annotation(axes=axes, discs=(disc,))))
    return samples


def photograph(folder: Path, size: int) -> tuple[Sample, PackedSplit]:
    """A photograph of 512 x 512 pixels with one axis, as a file and packed."""
    Image.fromarray(data.astronaut()).save(folder / "astronaut.jpg", quality=95)
    sample = Sample("astronaut", folder / "astronaut.jpg", Annotation(axes=(ReflectionAxis(230, 20, 240, 300),)))
    pack([sample], "reflection", size, folder / "packed.safetensors", "packing")
    return sample, PackedSplit(folder / "packed.safetensors", "reflection")

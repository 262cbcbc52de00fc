"""Which parameters learn, and how fast."""

import torch

from pipeline.model.clipsym import CLIPSym
from pipeline.params import Params


def build_optimiser(model: CLIPSym, params: Params) -> torch.optim.Adam:
    """Adam over all parameters that learn, in groups whose `top` is the learning rate before the schedule.

    The topmost block of the image tower learns at `tower_lr`, each block below at `layer_decay` times the rate above
    it, the text tower at `tower_lr`, the decoder, which is the last group, at `decoder_lr`.
    """
    rate, layers = params.chosen.tower_lr, model.image_tower.layers()
    groups = [(layer, rate * params.train.layer_decay**above) for above, layer in enumerate(reversed(layers))]
    if model.text_tower is not None:
        groups.append((list(model.text_tower.parameters()), rate))
    groups.append((list(model.decoder.parameters()), params.chosen.decoder_lr))
    learning = [([p for p in group if p.requires_grad], top) for group, top in groups]
    return torch.optim.Adam([{"params": group, "top": top, "lr": top} for group, top in learning if group])

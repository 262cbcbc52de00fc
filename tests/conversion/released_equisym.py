"""Files as EquiSym's released training writes them: of random numbers, and of the recorded network."""

import json
from argparse import Namespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pipeline.model.equisym.model import folded_model
from pipeline.model.equisym.released import load_equisym, released_names
from pipeline.model.equisym.symmetric import SymmetricConv, ordered
from pipeline.model.pickled import read_released
from pipeline.params import EquiSymParams

EVERYTHING = {"epoch": 95, "max_f1": np.float64(0.6), "optimizer": {"state": {}, "param_groups": [{"lr": 1e-3}]}}


def written(path, state, prefix="module.", rot_data=0, **more):
    """A file as the released training writes it."""
    state = {prefix + name: value for name, value in state.items()}
    torch.save({"state_dict": state, "args": Namespace(rot_data=rot_data, depth=50), **EVERYTHING, **more}, path)
    return path


def read(path, task="reflection"):
    return load_equisym(read_released(path), task)


def recording(golden):
    """What was recorded of the released network, where it is at hand."""
    path = golden / "equisym" / "released.npz"
    if not path.is_file():
        pytest.skip(f"{path}: not there; it is too large to be committed")
    return np.load(path)


def state_of(recorded):
    """The state dict of the recorded network, with e2cnn's bases."""
    state = {name[6:]: torch.tensor(recorded[name], dtype=torch.float32) for name in recorded if name[:6] == "state/"}
    return state | {name: torch.tensor(recorded[at]) for name, at in json.loads(str(recorded["basis_of"])).items()}


def assert_agrees(model, recorded):
    images = torch.tensor(recorded["images"])
    with torch.no_grad():
        features = torch.empty(len(images), 256, *recorded["features"].shape[2:])
        features[:, ordered(256)] = model.network.aspp(model.network.backbone(images))
        logits, theta = model.network(images)
        probability = model(images * model.std + model.mean).sigmoid()
        direct = F.interpolate(logits, images.shape[2:], mode="bilinear", align_corners=True).sigmoid()
    np.testing.assert_allclose(features[:, :32], recorded["features"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(theta, recorded["theta"], atol=1e-4, rtol=0)
    for found in (probability, direct):
        np.testing.assert_allclose(found, recorded["probability"], atol=1e-5, rtol=0)


def task_of(recorded):
    return "rotation" if recorded["theta"].shape[1] == 22 else "reflection"


def random_state(version, orientations=0, seed=0):
    """A released state dict of depth 50, or 18 where it is steerable, with numbers of a sensible size; its bases are
    one function each, so that it is small: the filter that is the same in all channels and pixels.
    """
    generator = torch.Generator().manual_seed(seed)
    depth = 50 if version == "plain" else 18
    shape = EquiSymParams(family="equisym", version=version, depth=depth, orientations=orientations, input_size=417)
    state = {}

    def random(*sizes, scale=1.0, offset=0.0):
        return offset + scale * torch.randn(*sizes, generator=generator)

    def put(name, size):
        outputs, inputs, side, _ = size
        conv, norm = released_names(name, version == "plain")
        scale = (2 / (inputs * side**2)) ** 0.5
        if version == "plain":
            state[f"{conv}.weight"] = random(*size, scale=scale)
            fields, key = outputs, norm
        else:
            o, i = (16 if channels % 16 == 0 else 1 for channels in (outputs, inputs))
            basis = torch.ones(1, o, i, side, side)
            if name in ("aspp.aspp2", "aspp.aspp3", "aspp.aspp4"):
                basis[..., ::2, ::2] = 0
            block = f"{conv}._basisexpansion.block_expansion_('regular', 'regular')"
            state[f"{block}.sampled_basis"] = basis.flatten(3)
            state[f"{conv}.weights"] = random(outputs // o * inputs // i, scale=scale)
            state[f"{conv}._basisexpansion.in_indices_('regular', 'regular')"] = torch.tensor([0, inputs])
            state[f"{conv}.filter"] = torch.zeros(size)  # as before the first evaluation
            state[f"{norm}.indices_16"] = torch.tensor([0, outputs])
            fields, key = outputs // o, f"{norm}.batch_norm_[16]"
        if norm:
            state[f"{key}.weight"], state[f"{key}.bias"] = (
                random(fields, scale=0.1, offset=1),
                random(fields, scale=0.1),
            )
            state[f"{key}.running_mean"] = random(fields, scale=0.1)
            state[f"{key}.running_var"] = random(fields).abs() + 0.5
            state[f"{key}.num_batches_tracked"] = torch.tensor(7)
        elif version == "plain":
            state[f"{conv}.bias"] = random(outputs)

    for name, module in folded_model(shape).network.named_modules():
        if isinstance(module, (nn.Conv2d, SymmetricConv)):
            put(name, module.shape if isinstance(module, SymmetricConv) else module.weight.shape)
    return state


def state_of_learning(model):
    """The released state dict of a model that learns, of the D8 version: its weights and bases under e2cnn's names."""
    state = {}
    for name, layer in model.layers():
        conv, norm = released_names(name, plain=False)
        if hasattr(layer, "conv"):
            state[f"{conv}.weights"] = layer.conv.weights.detach()
            block = f"{conv}._basisexpansion.block_expansion_('regular', 'regular')"
            state[f"{block}.sampled_basis"] = layer.conv.basis
        else:  # of maps without direction
            state[f"{conv}.weights"] = layer.weight.detach().flatten()
            state[f"{conv}._basisexpansion.block_expansion_('regular', 'regular').sampled_basis"] = torch.ones(
                1, 1, 1, 1
            )
        if norm:
            state |= {f"{norm}.batch_norm_[16].{part}": value for part, value in layer.norm.state_dict().items()}
    return state


def shaken(model, seed=0):
    """The model with statistics of its normalisations as if it had learnt."""
    generator = torch.Generator().manual_seed(seed)
    for _, layer in model.layers():
        if hasattr(layer, "norm"):
            for part, offset in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
                value = getattr(layer.norm, part).data
                value.copy_(offset + 0.1 * torch.randn(len(value), generator=generator).abs())
    return model.eval()

"""A model starts as the same function as the checkpoint that it goes on from."""

import logging

import pytest
import torch

from pipeline.conversion.portable import portable
from pipeline.errors import CheckpointError
from pipeline.model.checkpoint import load_model, save_model
from pipeline.model.header import SHIPPED
from pipeline.model.initial import start_from
from pipeline.params import load_params
from pipeline.training.state import new_model
from tests.model.test_checkpoint import COMMITTED, saved, small_lite, tiny

IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def seen(model):
    with torch.no_grad():
        return model.eval()(IMAGES).sigmoid()


def fresh(params):
    """A model of these parameters with other random weights than `saved` gives."""
    return new_model(params.model_copy(update={"seed": 7}))[0]


@pytest.mark.parametrize("group", ["C4", "D4"])
@pytest.mark.parametrize("prompts", ["none", "sapg"])
def test_the_portable_form_is_brought_back(tmp_path, group, prompts):
    """Up to the rounding of its weights to 16 bits."""
    shape = [f"decoder.group={group}", "decoder.layers=4", "decoder.width=16"]
    model, record = saved(tmp_path / "trained.safetensors", small_lite("prompts.kind=none", *shape))
    save_model(tmp_path / "portable.safetensors", *portable(model, record))
    params = small_lite(f"prompts.kind={prompts}", "prompts.count=3", *shape)
    learner = fresh(params)
    assert (seen(learner) - seen(model)).abs().max() > 0.03
    start_from(learner, tmp_path / "portable.safetensors", params.decoder)
    assert (seen(learner) - seen(model)).abs().max() < 0.01
    assert (learner.text_embeddings is None) == (prompts == "none")


def test_prompts_are_added_without_effect(tmp_path):
    model, _ = saved(tmp_path / "none.safetensors", tiny("none"))
    params = tiny("sapg")
    learner = fresh(params)
    embeddings = learner.text_embeddings.clone()
    start_from(learner, tmp_path / "none.safetensors", params.decoder)
    torch.testing.assert_close(seen(learner), seen(model), rtol=0, atol=1e-5)
    assert torch.equal(learner.text_embeddings, embeddings) and learner.decoder.film_mul.weight.requires_grad


def test_another_upsampler_begins_anew_and_that_is_said(tmp_path, caplog):
    model, _ = saved(tmp_path / "model.safetensors", tiny("none"))
    params = tiny("none", "plain")
    learner = fresh(params)
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    with caplog.at_level(logging.INFO, "pipeline"):
        start_from(learner, tmp_path / "model.safetensors", params.decoder)
    assert "its decoder is of another shape" in caplog.text and "equivariant" in caplog.text
    assert "here decoder.upsampler.* begins anew" in caplog.text
    for name, value in learner.state_dict().items():
        assert torch.equal(value, before[name] if "upsampler" in name else model.state_dict()[name]), name


def test_another_width_leaves_the_tower(tmp_path, caplog):
    model, _ = saved(tmp_path / "model.safetensors", small_lite())
    params = small_lite("decoder.width=32")
    learner = fresh(params)
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    with caplog.at_level(logging.INFO, "pipeline"):
        start_from(learner, tmp_path / "model.safetensors", params.decoder)
    assert "here decoder.* begins anew" in caplog.text
    for name, value in learner.state_dict().items():
        assert torch.equal(value, before[name] if name.startswith("decoder.") else model.state_dict()[name]), name


def test_a_lite_model_starts_from_the_shipped_weights():
    """By the word of params.yaml; other backbones, and the ablations, from pretrained towers."""
    started = new_model(load_params(COMMITTED, ["prompts.kind=none", "decoder.group=C4", "decoder.layers=4"]))[0]
    shipped, _ = load_model(SHIPPED / "lite_reflection.safetensors")
    assert (seen(started) - seen(shipped)).abs().max() < 0.001
    assert (
        seen(new_model(small_lite())[0]) - seen(new_model(small_lite("train.start=pretrained"))[0])
    ).abs().max() == 0


def test_weights_of_another_model_are_refused(tmp_path):
    params = tiny("none")
    _, record = saved(tmp_path / "prompts.safetensors", tiny("sapg"))
    with pytest.raises(CheckpointError, match="prompts.safetensors: its weights are of another model"):
        start_from(fresh(params), tmp_path / "prompts.safetensors", params.decoder)
    lite, record = saved(tmp_path / "lite.safetensors", small_lite("prompts.kind=none"))
    save_model(tmp_path / "portable.safetensors", *portable(lite, record))
    with pytest.raises(CheckpointError, match="of the backbone lite"):
        start_from(fresh(params), tmp_path / "portable.safetensors", params.decoder)

"""The options of the method, each on the tiny towers and a handful of made images."""

import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pipeline.data.packed.split import TargetSplit
from pipeline.model.checkpoint import load_model
from pipeline.processes import ALL, start
from pipeline.scoring.heat_maps import heat_maps
from pipeline.training.loader import TrainingSet, epoch_batches, first_batches, training_batches
from pipeline.training.loop import balanced_alpha, train
from pipeline.training.resume import Checkpoint
from pipeline.training.state import TrainingState, build_optimiser, new_model, schedule_factor
from tests.training.test_loop import PARAMS, SIZE, history, params, split


def options(backbone="tiny", prompts=None, decoder=None, entry=None, **recipe):
    """Small parameters with others in some sections."""
    base = params(**{"epochs": 1, "validate_every": 9, **recipe})
    chosen = PARAMS.backbones[backbone].model_copy(update={"input_size": SIZE, **(entry or {})})
    return base.model_copy(
        update={
            "backbone": backbone,
            "backbones": {**base.backbones, backbone: chosen},
            "prompts": base.prompts.model_copy(update=prompts or {}),
            "decoder": base.decoder.model_copy(update=decoder or {}),
        }
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Five training images: in batches of four the last holds a single one."""
    folder = tmp_path_factory.mktemp("data")
    return [split(folder / "dendi-train", 5)], [split(folder / "dendi-val", 2)]


def weights(folder):
    return load_file(folder / "model.safetensors")


@pytest.fixture
def kept(monkeypatch):
    """What is done with the model that a training keeps: its heat maps and its text tower are noted."""
    seen, save = {}, Checkpoint.save_best

    def noted(self, model, record):
        seen["text_tower"] = model.text_tower
        seen["heat"] = lambda part: [heat for _, heat in heat_maps(model, part, 2, "kept")]
        save(self, model, record)

    monkeypatch.setattr(Checkpoint, "save_best", noted)
    return seen


# Learning rates


@pytest.mark.parametrize(
    "schedule, factors",
    [
        ("exp", [0.5, 0.25, 0.125, 0.0625]),
        ("constant", [1, 1, 1, 1]),
        ("step", [1, 0.0625, 0.0625**2, 0.0625**3]),  # at a half, three quarters and the end
        ("cos", [0.5, 1, (1 + 0.0625) / 2, 0.0625]),
        ("cooldown", [1, 1, 0.84375, 0.453125]),  # before the step: three quarters, a half, a quarter are left
    ],
)
def test_schedule_sets_all_rates(data, tmp_path, monkeypatch, schedule, factors):
    rates, update = [], TrainingState.update

    def noted(self):
        rates.append([group["lr"] for group in self.optimiser.param_groups])
        return update(self)

    monkeypatch.setattr(TrainingState, "update", noted)
    recipe = {"schedule": schedule, "epochs": 4, "decay": 0.0625, "warmup": 2, "batch": 5}
    train(options(entry={"tower_lr": 1e-4, "decoder_lr": 4e-3}, **recipe), *data, tmp_path)
    assert list(history(tmp_path, "lr_scale").values()) == pytest.approx(factors)
    for found, factor in zip(rates, factors, strict=True):  # one step an epoch
        assert found[-1] == pytest.approx(4e-3 * factor)
        assert found[:-1] == pytest.approx([1e-4 * factor] * 5)  # before the blocks, and four of them


def test_cooldown_falls_within_an_epoch(data, tmp_path, monkeypatch):
    rates, update = [], TrainingState.update
    monkeypatch.setattr(TrainingState, "update", lambda self: rates.append(self.lr) or update(self))
    recipe = {"schedule": "cooldown", "epochs": 1, "decay": 0.0625, "batch": 1}
    train(options(entry={"decoder_lr": 4e-3}, **recipe), *data, tmp_path)
    steps = sum(map(len, data[0]))
    assert len(rates) == steps > 4
    factors = [schedule_factor("cooldown", 1, 1, 0.0625, 0, number / steps) for number in range(steps)]
    assert rates == pytest.approx([4e-3 * factor for factor in factors])


@pytest.mark.parametrize("frozen", [0, 2])
def test_layer_decay(frozen):
    entry = {"tower_lr": 1e-3, "decoder_lr": 5e-3, "frozen": frozen}
    recipe = options(entry=entry, layer_decay=0.5, text_tower="trained")
    model, _ = new_model(recipe)
    groups = build_optimiser(model, recipe).param_groups
    tops = {id(parameter): group["top"] for group in groups for parameter in group["params"]}
    visual, blocks = model.image_tower.visual, model.image_tower.visual.transformer.resblocks
    parts = [visual.conv1, visual.ln_pre, *blocks, model.text_tower, model.decoder]
    expected = [1e-3 / 16, 1e-3 / 16, 1e-3 / 8, 1e-3 / 4, 1e-3 / 2, 1e-3, 1e-3, 5e-3]
    for number, (part, top) in enumerate(zip(parts, expected)):
        learns = not frozen or number >= 4  # the two in front of the blocks and two blocks do not
        assert {tops.get(id(p)) for p in part.parameters()} == {top if learns else None}
    assert len(tops) == sum(p.requires_grad for p in model.parameters())


# Prompts and towers


@pytest.mark.parametrize(
    "kind, count, words",
    [
        ("sapg", 2, None),
        ("reflection_axis", 1, 2),
        ("symmetry_axes", 1, 5),
        ("objects_25", 1, None),
        ("random_letters", 2, 4),
        ("none", 0, None),
    ],
)
def test_prompts_come_back_with_the_checkpoint(data, tmp_path, kept, kind, count, words):
    record = train(options(prompts={"kind": kind}), *data, tmp_path)
    assert len(record.prompts) == count and (words is None or {len(p.split()) for p in record.prompts} == {words})
    model, again = load_model(tmp_path / "model.safetensors")
    assert again == record and (model.text_embeddings is None) == (kind == "none")
    assert model.decoder.decoder_linear_map.weight.shape[1] == max(1, count)
    found = [heat for _, heat in heat_maps(model, data[1][0], 2, "loaded")]
    np.testing.assert_allclose(found, kept["heat"](data[1][0]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backbone", ["tiny", "lite"])
def test_a_frozen_image_tower_stays_to_the_bit(data, tmp_path, backbone):
    recipe = options(backbone, image_tower="frozen")
    train(recipe, *data, tmp_path)
    before, after = new_model(recipe)[0].state_dict(), weights(tmp_path)
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert changed and all(name.startswith("decoder.") for name in changed)
    assert any(name.startswith("image_tower.") for name in after)
    if backbone == "lite":
        assert any("running_var" in name for name in after)


def test_a_text_tower_that_learns(data, tmp_path, kept):
    recipe = options(text_tower="trained")
    train(recipe, *data, tmp_path)
    fresh, trained, stored = new_model(recipe)[0], kept["text_tower"], weights(tmp_path)
    assert not [name for name in stored if name.startswith("text_tower.")]
    before = fresh.text_tower.state_dict()
    still = {name for name, value in trained.state_dict().items() if torch.equal(value, before[name])}
    assert not [name for name in still if "token_embedding" not in name]
    with torch.no_grad():
        torch.testing.assert_close(stored["text_embeddings"], trained())
        assert (stored["text_embeddings"] - fresh.text_tower()).abs().max() > 1e-3


def test_no_prompts_leave_no_text_tower_to_train():
    """As in a cell of the ablation."""
    model, prompts = new_model(options(prompts={"kind": "none"}, text_tower="trained"))
    assert model.text_tower is None and prompts == []


GRADIENTS = [
    *({"decoder": {"upsampler": kind, "layers": n}} for kind in ("equivariant", "plain") for n in (1, 2, 4)),
    {"decoder": {"group": "D4", "layers": 1}},
    *({"prompts": {"kind": kind}} for kind in ("none", "reflection_axis", "objects_25")),
    {"text_tower": "trained"},
    {"image_tower": "frozen", "text_tower": "trained"},
    {"entry": {"frozen": 2}},
    {"entry": {"blocks": (1, 2, 3)}},
    {"backbone": "lite"},
    {"backbone": "lite", "text_tower": "trained", "entry": {"frozen": 0}},
    {"backbone": "lite", "prompts": {"kind": "none"}, "entry": {"blocks": (2, 4, 6), "frozen": 1}},
]


@pytest.mark.parametrize("changes", GRADIENTS, ids=str)
def test_all_that_learns_gets_a_gradient(changes):
    """Several processes would wait for one that never comes."""
    model, _ = new_model(options(**{**changes, "decoder": {"width": 16, **changes.get("decoder", {})}}))
    model.train()(torch.rand(2, 3, SIZE, SIZE)).square().mean().backward()
    assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not [name for name, p in model.named_parameters() if not p.requires_grad and p.grad is not None]


# Steps


def test_accumulation_changes_nothing(data, tmp_path):
    """Sums in another order differ by 1e-7, which Adam, dividing each gradient by its size, makes more of."""
    for name, parts in (("one", 1), ("two", 2)):
        train(options(accumulate=parts, epochs=2), *data, tmp_path / name)
    losses = [list(history(tmp_path / name, "loss").values()) for name in ("one", "two")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    one, two, start = weights(tmp_path / "one"), weights(tmp_path / "two"), new_model(options())[0].state_dict()
    learnt = [n for n in one if not n.endswith(("k_proj.bias", "text_embeddings"))]  # softmax does not see such a bias
    moved, apart = (math.hypot(*((a[n] - one[n]).norm() for n in learnt)) for a in (start, two))
    assert 0 < moved and apart < 1e-3 * moved


@pytest.mark.parametrize("decay", [0.75, 0.0])
def test_the_kept_weights_are_the_running_average(data, tmp_path, monkeypatch, decay):
    steps, update = [], TrainingState.update

    def noted(self):
        done = update(self)
        steps.append({name: value.clone() for name, value in self.model.named_parameters()})
        return done

    monkeypatch.setattr(TrainingState, "update", noted)
    train(options(ema=decay, batch=2), *data, tmp_path)
    first, second, third = steps
    for name, value in weights(tmp_path).items():
        if name in first:
            average = decay**2 * first[name] + decay * (1 - decay) * second[name] + (1 - decay) * third[name]
            torch.testing.assert_close(value, average, rtol=1e-5, atol=1e-6)
    assert any(not torch.allclose(first[name], third[name], atol=1e-4) for name in first)


@pytest.mark.parametrize("alpha", [0.9, "balanced", -1.0])
def test_alpha(data, tmp_path, alpha):
    """The loss of a first step, whose alpha is computed by hand."""
    recipe = options(alpha=alpha, batch=5)
    train(recipe, *data, tmp_path)
    dataset = TrainingSet(data[0], recipe.seed, recipe.train.augmentation)
    ((images, targets),) = training_batches(dataset, 1, epoch_batches(5, recipe.seed, 1, 5), ALL, 0)
    if alpha == "balanced":
        plain = np.stack([data[0][0].target(number) for number in range(5)])
        alpha = 1 - plain.mean()
        assert balanced_alpha(dataset) == pytest.approx(alpha) and 0.9 < alpha < 1
    model, _ = new_model(recipe)
    probability = model.train()(images).sigmoid()
    cross_entropy = -targets * probability.log() - (1 - targets) * (1 - probability).log()
    right = probability * targets + (1 - probability) * (1 - targets)
    weight = 1 if alpha == -1 else alpha * targets + (1 - alpha) * (1 - targets)
    expected = (weight * (1 - right) ** recipe.train.gamma * cross_entropy).mean().item()
    assert history(tmp_path, "loss")[0] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("precision, digits", [("bf16", 8), ("fp16", 11)])
def test_precision_is_close_to_fp32(data, tmp_path, precision, digits):
    """The loss, a mean over all pixels, is as near as a single number of so many binary digits.

    The learning rates are low: a step of Adam is as large where the gradient is nothing but rounding, which differs
    between processors.
    """
    low = {"tower_lr": 1e-4, "decoder_lr": 1e-4}
    for name in ("fp32", precision):
        train(options(precision=name, batch=5, epochs=2, entry=low), *data, tmp_path / name)
    exact, rounded = (list(history(tmp_path / name, "loss").values()) for name in ("fp32", precision))
    assert rounded == pytest.approx(exact, rel=2.0 ** (2 - digits)) and rounded != exact


# Overfitting


def test_overfit(data, tmp_path):
    record = train(options(overfit=1, batch=2, epochs=2), *data, tmp_path)
    assert record.validation_f1 > 0.95
    few = first_batches(data[0], options(overfit=1, batch=2))
    assert [part.name(number) for part in few for number in range(len(part))] == [
        data[0][0].name(index) for index in sorted(epoch_batches(5, PARAMS.seed, 1, 2)[0])
    ]


def test_what_is_overfitted_is_judged_by_its_targets(data):
    part = data[0][0].excerpt([3, 1])
    targets = TargetSplit(part.path, part.task, part.chosen)
    assert [targets.name(number) for number in range(2)] == [part.name(0), part.name(1)]
    assert np.array_equal(targets.mask(0), part.target(0) >= 0.5) and targets.mask(0).any()
    square = torch.rand(SIZE, SIZE)
    assert torch.allclose(targets.letterbox(0).native(square), square, atol=1e-6)
    assert np.array_equal(targets.native_image(1), part.image(1))
    assert np.array_equal(targets.excerpt([1]).mask(0), targets.mask(1))


def test_fabric_scales_the_loss_in_fp16_alone():
    """Elsewhere a gradient that is not finite stops the run."""
    scalers = {name: getattr(start(name).strategy.precision, "scaler", None) for name in ("fp32", "bf16", "fp16")}
    assert [name for name, scaler in scalers.items() if scaler is not None] == ["fp16"]

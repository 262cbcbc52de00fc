"""The upsamplers: turning the input of the equivariant one turns its output; the state is weights."""

import copy

import pytest
import torch

from benchmarks import plain
from pipeline.model.clipsym import PlainUpsampler, build_upsampler
from pipeline.model.equivariant import enn, equivariant_upsampler, group_space

GROUPS = ("C4", "C8", "C16", "D4", "D8")
LAYERS = ("lifting", "upsampler.1", "upsampler.4", "pool")
WIDTH = {1: 4, 2: 4, 4: 16}  # the least, by number of layers


def random(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def upsampler(group="C8", seed=0, layers=2):
    """Small, in float64, with random biases as well; plain without a group."""
    torch.manual_seed(seed)
    kind, width = "equivariant" if group else "plain", WIDTH[layers]
    module = build_upsampler(kind, width, group or "C4", layers).double()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()
    return module


def run(module, x):
    with torch.no_grad():
        return module(x)


def error(output, expected):
    """The largest deviation, relative to how much the expected map varies."""
    return ((output - expected).abs().max() / expected.std()).item()


@pytest.mark.parametrize("shape, layers", [((1, 2), 2), ((3, 5), 2), ((4, 4), 2), ((2, 3), 1), ((2, 1), 4)])
@pytest.mark.parametrize("group", [*GROUPS, None])
def test_equals_the_plain_formulation(group, shape, layers):
    module, x = upsampler(group, layers=layers), random(2, WIDTH[layers], *shape).requires_grad_()
    inputs = [x, *module.parameters()]
    expected, found = plain.upsampler(module, x), module(x)
    assert error(found, expected) < 1e-9
    direction = torch.randn_like(found)
    gradients = [torch.autograd.grad((result * direction).sum(), inputs) for result in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-7, atol=1e-7)


def test_a_filter_expanded_under_autocast_is_not_rounded():
    module, x = upsampler().float().eval(), random(1, 4, 3, 3).float()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = run(module, x)
    fresh = upsampler().float()
    assert error(run(module, x), run(fresh, x)) < 1e-6 < error(rounded, run(fresh, x)) < 0.1


@pytest.mark.parametrize("layers", WIDTH)
@pytest.mark.parametrize("group", GROUPS)
def test_equals_escnn_modules(group, layers):
    ours, space, width, factor = upsampler(group, layers=layers), group_space(group), WIDTH[layers], 16 ** (1 / layers)
    scalars, one = (enn.FieldType(space, n * [space.trivial_repr]) for n in (width, 1))
    fields = [enn.FieldType(space, n * [space.regular_repr]) for n in (16, 8, 4, 2, 1) if n <= width][: layers + 1]

    def conv(name, *types):
        module = enn.R2Conv(*types, 3, padding=1, recompute=True).train()
        module.load_state_dict(dict(ours.get_submodule(name).named_parameters()), strict=False)
        return module

    steps = [conv("lifting", scalars, fields[0])]
    for number, (wide, narrow) in enumerate(zip(fields, fields[1:])):
        steps.append(enn.R2Upsampling(wide, int(factor), mode="bilinear", align_corners=False))
        steps += [conv(f"upsampler.{3 * number + 1}", wide, narrow), enn.ReLU(narrow)]
    escnn, x = enn.SequentialModule(*steps, conv("pool", fields[-1], one)).double(), random(2, width, 2, 3)
    assert error(ours(x), escnn(enn.GeometricTensor(x, scalars)).tensor) < 1e-5


@pytest.mark.parametrize(
    "shape, layers", [((4, 4), 2), ((5, 5), 2), ((3, 6), 2), ((3, 3), 1), ((2, 4), 1), ((2, 3), 4)]
)
@pytest.mark.parametrize("group", GROUPS)
def test_equivariant(group, shape, layers):
    module, x = upsampler(group, layers=layers).eval(), random(1, WIDTH[layers], *shape)
    expected = run(module, x)
    assert expected.shape == (1, 1, 16 * shape[0], 16 * shape[1])
    for turns in (1, 2, 3):
        assert error(run(module, x.rot90(turns, (2, 3))), expected.rot90(turns, (2, 3))) < 1e-5
    flips = [error(run(module, x.flip(axis)), expected.flip(axis)) for axis in (2, 3)]
    if group.startswith("D"):
        assert max(flips) < 1e-5
    else:
        assert min(flips) > 1e-2


@pytest.mark.parametrize("layers", WIDTH)
def test_plain_is_not_equivariant(layers):
    module, x = upsampler(None, layers=layers), random(1, WIDTH[layers], 4, 4)
    expected = run(module, x)
    assert error(run(module, x.rot90(1, (2, 3))), expected.rot90(1, (2, 3))) > 1e-2
    assert error(run(module, x.flip(3)), expected.flip(3)) > 1e-2


def test_state_is_weights_and_biases_under_the_released_names():
    equivariant = {f"{layer}.{kind}" for layer in LAYERS for kind in ("weights", "bias")}
    plain = {f"{layer}.{kind}" for layer in "036" for kind in ("weight", "bias")}
    for module, names in ((equivariant_upsampler(4, "C8", 2), equivariant), (PlainUpsampler(4, 2), plain)):
        for mode in (True, False):
            run(module.train(mode), torch.randn(1, 4, 2, 2))
            assert set(module.state_dict()) == names == {name for name, _ in module.named_parameters()}


@pytest.mark.parametrize("saved", [True, False])
@pytest.mark.parametrize("loaded", [True, False])
def test_state_loads_in_either_mode(saved, loaded):
    source, target, x = upsampler(seed=1).train(saved), upsampler(seed=2).train(loaded), random(1, 4, 3, 3)
    expected, before = run(source, x), run(target, x)
    target.load_state_dict(source.state_dict(), strict=True)
    torch.testing.assert_close(run(target, x), expected, rtol=0, atol=0)
    assert not torch.equal(before, expected)


def optimiser_step(module):
    optimiser = torch.optim.Adam(module.parameters(), lr=0.1)
    module(random(1, 4, 2, 2)).square().sum().backward()
    optimiser.step()


def copied_in_place(module):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter))


def loaded(module):
    module.load_state_dict(upsampler(seed=3).state_dict())


def moving_average(module):
    averaged = torch.optim.swa_utils.AveragedModel(upsampler(seed=4))
    averaged.update_parameters(module)
    for parameter, mean in zip(module.parameters(), averaged.module.parameters()):
        parameter.data = mean.data * 2


@pytest.mark.parametrize("change", [optimiser_step, copied_in_place, loaded, moving_average])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_no_stale_filter_in_evaluation_mode(change, mode):
    module, x = upsampler().eval(), random(1, 4, 3, 3)
    with mode():
        before = module(x).clone()
    change(module)
    expected = module.train()(x)  # with gradients: expanded anew
    fresh = upsampler(seed=9)
    fresh.load_state_dict(module.state_dict())
    with mode():
        after = module.eval()(x)
        torch.testing.assert_close(after, expected, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(after, fresh(x), rtol=1e-9, atol=1e-9)
        assert not torch.allclose(after, before)


def test_models_share_nothing():
    """escnn hands one basis to all its modules, so that moving or casting one model would break the others."""
    first, second = equivariant_upsampler(4, "C8", 2), equivariant_upsampler(4, "C8", 2)
    assert not {id(module) for module in first.modules()} & {id(module) for module in second.modules()}
    first.double()
    assert run(second, torch.randn(1, 4, 2, 2)).dtype == torch.float32


def test_copies_and_other_precisions_follow_their_own_weights():
    module, x = upsampler().eval(), random(1, 4, 3, 3)
    expected = run(module, x)
    twin = copy.deepcopy(module)
    copied_in_place(twin)
    assert error(run(twin, x), expected) > 1e-2
    assert error(run(module, x), expected) == 0
    assert error(run(module.float(), x.float()), expected.float()) < 1e-4

"""The values with which channels come back, beside those they last had."""

import copy

import pytest
import torch
from torch.nn import functional as F

from pruning_lit.methods.chex.dormancy import NarrowState
from pruning_lit.methods.chex.regrowth import RegrowInit
from tests.methods.chex.test_dormancy import FIRST, SECOND, Fit, assert_close, built, dormant, each_kind

IMAGES = torch.randn(5, 3, 6, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def values(init: RegrowInit, fit: Fit):
    return init.values(fit.pruned, lambda whole: built(seed=5).state_dict())


@each_kind
def test_what_comes_back_without_effect_changes_no_output(kind):
    fit = Fit(kind).stage(FIRST).train().stage(SECOND).train()
    before = fit.net.eval()(IMAGES)
    fit.pruned.restore(fit.trainer, fit.net, values(RegrowInit("zero"), fit))
    torch.testing.assert_close(fit.net.eval()(IMAGES), before, rtol=0, atol=1e-12)
    assert fit.net.shortcut[0].weight.shape[0] == 7


@each_kind
def test_what_comes_back_without_effect_is_trained_from_the_first_step(kind):
    """Zeros everywhere would have no gradient, ever; so the filters are those that were, and what reads them learns."""
    fit = Fit(kind).stage(FIRST).train()
    away = dormant(built(), fit.graph, FIRST)
    fit.pruned.restore(fit.trainer, fit.net, values(RegrowInit("zero"), fit))
    F.cross_entropy(fit.net.train()(IMAGES), torch.arange(5) % 4).backward()
    gradients = {name: parameter.grad for name, parameter in fit.net.named_parameters()}
    read = away["outer.0.weight"].all(0).all(-1).all(-1)  # columns of what is dormant in the branch
    assert gradients["outer.0.weight"][:, read].abs().amin(dim=(0, 2, 3)).min() > 0
    assert gradients["shortcut.1.weight"][away["shortcut.1.weight"]].abs().min() > 0


@each_kind
def test_averages_go_on_while_a_channel_is_active_and_stand_still_while_it_is_dormant(kind):
    """By hand: half of the average and half of the present value, after every step."""
    fit, init = Fit(kind), RegrowInit("ema", ema_decay=0.5)
    init.begin(fit.pruned.most_recent)
    expected = {name: tensor.clone() for name, tensor in fit.net.state_dict().items() if tensor.is_floating_point()}
    for active in (FIRST, SECOND):
        fit.stage(active)
        away = dormant(built(), fit.graph, active)
        for _ in range(3):
            fit.train(1)
            init.update(fit.net, fit.pruned, fit.step)
            init.update(fit.net, fit.pruned, fit.step)  # a batch without a step
            whole = copy.deepcopy(fit).restore().net.state_dict()
            for name, average in expected.items():
                blended = average.lerp(whole[name], 0.5)
                expected[name] = torch.where(away[name], average, blended) if name in away else blended
    found = values(init, fit)
    assert_close(found, expected, 1e-12)
    fit.pruned.restore(fit.trainer, fit.net, found)
    for name in away:
        assert torch.equal(fit.net.state_dict()[name][away[name]], found[name][away[name]]), name


@each_kind
def test_new_values_are_those_of_a_newly_built_network(kind):
    fit = Fit(kind).stage(FIRST).train()
    found = values(RegrowInit("random"), fit)
    assert torch.equal(found["stem.0.weight"], built(seed=5).stem[0].weight)


def test_by_default_the_most_recent_values_come_back():
    assert values(RegrowInit(), Fit(NarrowState)) is None


@pytest.mark.parametrize("decay", [1.0, -0.1, True, "much"])
def test_averages_of_nothing_or_of_all_times_are_refused(decay):
    with pytest.raises(ValueError, match="ema_decay is the share of an average that a step leaves"):
        RegrowInit("ema", decay)

"""Taylor scores: golden numbers, the derivatives that they stand for, and that nothing is left behind."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from pruning_lit.criteria import NeedsData, Scoring, Taylor
from pruning_lit.models import preresnet
from tests.commands import in_own_process, run_command
from tests.conftest import read_report
from tests.criteria.given import CLASSES, Given, bare, given, golden, golden_scoring, resnet, scoring


@pytest.mark.parametrize(
    ("form", "name"),
    [
        ("gate", "gate"),
        ("filter", "filter"),
        ("elementwise", "elementwise"),
        ("absolute", "elementwise_abs"),
    ],
)
def test_scores_are_the_golden_ones(form, name):
    case, batch_size = golden_scoring()
    found = Taylor(form=form, batch_size=batch_size).scores(case)
    torch.testing.assert_close(found, golden(f"taylor_{name}"), rtol=0, atol=1e-10)


def changes_by_hooks(net: nn.Module, data: Given, kind: type[nn.Module]) -> dict[str, Tensor]:
    """Sum over images and pixels of output times gradient of the loss, by layer: what the loss owes each channel."""
    outputs: dict[str, Tensor] = {}
    net = copy.deepcopy(net).eval()
    for name, module in net.named_modules():
        if isinstance(module, kind):
            module.register_forward_hook(lambda _, __, maps, name=name: outputs.update({name: maps}))
    loss = cross_entropy(net(data.images), data.targets)
    gradients = torch.autograd.grad(loss, list(outputs.values()))
    products = ((maps * gradient).transpose(0, 1) for maps, gradient in zip(outputs.values(), gradients, strict=True))
    return dict(zip(outputs, (each.flatten(1).sum(1).detach() for each in products), strict=True))


def test_a_gate_is_worth_what_the_loss_owes_the_output_of_its_batch_norm():
    net, data = resnet(), given(6)
    found, owed = Taylor().scores(scoring(net, data)), changes_by_hooks(net, data, nn.BatchNorm2d)
    for stage in (1, 2, 3):
        torch.testing.assert_close(found[f"layer{stage}.0.conv1"], owed[f"layer{stage}.0.bn1"].square())


def test_gates_of_a_stream_are_added_before_they_are_squared():
    net, data = resnet(), given(6)
    owed = changes_by_hooks(net, data, nn.BatchNorm2d)
    parts = torch.stack([owed["bn1"], owed["layer1.0.bn2"]])
    expected = {
        "sum": parts.sum(0).square(),
        "mean": parts.square().mean(0),
        "max": parts.square().amax(0),
        "first": parts[0].square(),
    }
    for reduction, scores in expected.items():
        found = Taylor(reduction=reduction).scores(scoring(net, data))
        torch.testing.assert_close(found["conv1"], scores)


def test_a_layer_without_batch_norm_is_worth_what_the_loss_owes_its_output():
    net, data = bare(), given(6, 8)
    found = Taylor().scores(scoring(net, data))
    owed = changes_by_hooks(net, data, nn.Conv2d) | changes_by_hooks(net, data, nn.Linear)
    assert found.keys() == {"0", "4"}
    for name, scores in found.items():
        torch.testing.assert_close(scores, owed[name].square())


def test_that_filters_stand_in_for_batch_norms_is_noted():
    with_norms, without = scoring(resnet(), given(2)), scoring(bare(), given(2, 8))
    (note,) = Taylor().notes(without, {})
    assert "No batch norm scales the channels of 0, 4" in note
    assert not Taylor().notes(with_norms, {})
    assert not Taylor(form="filter").notes(without, {})


def test_channels_selected_from_a_stream_have_the_gates_of_their_own_batch_norm():
    torch.manual_seed(0)
    net, data = preresnet(11, num_classes=CLASSES).double(), given(2)
    case = scoring(net, data)
    found = Taylor().scores(case)
    assert {len(found[group.name]) == group.size for group in case.groups} == {True}
    assert all(bool((scores > 0).any()) for scores in found.values())


def test_scores_are_means_over_batches():
    net, data = resnet(), given(6)
    halves = [Given(data.images[half], data.targets[half]) for half in (slice(0, 3), slice(3, 6))]
    found = Taylor(batch_size=3).scores(scoring(net, data))
    one, other = (Taylor().scores(scoring(net, half)) for half in halves)
    for name, scores in found.items():
        torch.testing.assert_close(scores, (one[name] + other[name]) / 2)


@pytest.mark.parametrize("make", [resnet, bare])
def test_nothing_is_left_in_the_network_nor_in_the_random_state(make):
    net, data = make(), given(4, 32 if make is resnet else 8)
    net.train()
    net.get_submodule("conv1" if make is resnet else "0").requires_grad_(False)
    cross_entropy(net(data.images), data.targets).backward()
    before, gradients = copy.deepcopy(net), [copy.deepcopy(each.grad) for each in net.parameters()]
    case = scoring(net, data)
    random, modes = torch.get_rng_state(), [module.training for module in net.modules()]
    scores = Taylor().scores(case)
    assert torch.equal(torch.get_rng_state(), random)
    assert [module.training for module in net.modules()] == modes
    for old, new, gradient in zip(before.parameters(), net.parameters(), gradients, strict=True):
        assert torch.equal(old, new)
        assert old.requires_grad == new.requires_grad
        assert new.grad is None if gradient is None else torch.equal(new.grad, gradient)
    assert all(torch.equal(old, new) for old, new in zip(before.buffers(), net.buffers(), strict=True))
    assert all(bool(each.any()) for each in scores.values()), "frozen parameters are scored, too"


def test_a_forward_pass_that_draws_numbers_leaves_the_random_state():
    class Noisy(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x + 0.01 * torch.randn_like(x))

    net, data = Noisy(*bare()), given(4, 8)
    case = scoring(net, data)
    random = torch.get_rng_state()
    Taylor().scores(case)
    assert torch.equal(torch.get_rng_state(), random)


def test_scores_need_neither_autograd_switched_on_nor_full_precision():
    net, data = resnet().float(), given(4)
    data.images = data.images.float()
    case = scoring(net, data)
    expected = Taylor().scores(case)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        found = Taylor().scores(case)
    for name, scores in expected.items():
        assert torch.equal(found[name], scores)
        assert scores.dtype == torch.float64


def test_images_and_a_task_are_needed():
    case = scoring(bare(), given(2, 8))
    for lacking in (Scoring(case.net, case.graph, case.groups), Scoring(case.net, case.graph, case.groups, case.data)):
        with pytest.raises(NeedsData, match="depend on"):
            Taylor().scores(lacking)


def of_one_rank(rank: int, folder: Path) -> None:
    store = torch.distributed.FileStore(str(folder / "store"), 2)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2, store=store)
    torch.save(Taylor(batch_size=2).scores(scoring(resnet(), given(5))), folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
@in_own_process
def test_two_processes_with_unequal_shares_find_the_scores_of_one(tmp_path):
    torch.multiprocessing.start_processes(of_one_rank, (tmp_path,), nprocs=2, start_method="fork")
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    for name, scores in Taylor(batch_size=2).scores(scoring(resnet(), given(5))).items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], scores, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"form": "hessian"}, "criterion.form must be one of .*'gate'.*, got 'hessian'"),
        ({"reduction": "median"}, "criterion.reduction must be one of .*'sum'.*, got 'median'"),
        ({"num_images": 0}, "criterion.num_images must be a whole number of at least 1, got 0"),
        ({"batch_size": 0}, "criterion.batch_size must be a whole number of at least 1, got 0"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(settings, told):
    with pytest.raises(ValueError, match=told):
        Taylor(**settings)


@pytest.mark.parametrize("execution", ["narrow", pytest.param("mask", marks=pytest.mark.slow)])
def test_a_run_from_the_command_line_cuts_by_taylor_scores(tmp_path, execution):
    run_command(
        "method=magnitude", "criterion=taylor", "debug=quick", "arch=resnet8", "calibration_images=64",
        f"finetune.callbacks.prune.execution={execution}", "trainer.accelerator=cpu",
        f"hydra.run.dir={tmp_path / execution}",
    )  # fmt: skip
    report = read_report(tmp_path / execution)
    assert report["after"]["macs"] < report["before"]["macs"]
    state = torch.load(tmp_path / execution / "phases" / "2-finetune" / "last.ckpt", weights_only=True)
    (cut,) = state["callbacks"]["ScheduledPruning"]["cuts"]
    assert all(bool((scores > 0).any()) for scores in cut["details"]["scores"]["scores"].values())

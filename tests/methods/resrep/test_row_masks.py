"""Masks of rows: which are put on the list, which rows go in the end, and what report and checkpoints know of it."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor, nn

from pruning_lit.callbacks import BestCheckpoint
from pruning_lit.channels import compactors, cost, insert_compactors, trace
from pruning_lit.methods.resrep import CompactorNorm, RowMasks
from pruning_lit.methods.resrep.outcome import RowOutcome
from pruning_lit.methods.resrep.pace import MaskingPace
from pruning_lit.methods.resrep.rows import HasCompactors, MaskingProgress, masked, write_masks
from pruning_lit.sparsity import Macs
from pruning_lit.tasks import Classification, Primary

EXAMPLE = torch.zeros(1, 3, 8, 8)
WHOLE = {"conv1": [1.0] * 6, "conv2": [1.0] * 6}


class Net(nn.Module):
    """Two layers of six channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)
        self.conv2, self.bn2 = nn.Conv2d(6, 6, 3), nn.BatchNorm2d(6)
        self.linear = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x)).relu()
        return self.linear(self.bn2(self.conv2(x)).relu().mean((2, 3)))


def forgetting(
    lengths: dict[str, list[float]], listed: dict[str, list[int]] | None = None, reduction: float = 0.5, **limits
) -> HasCompactors:
    """A phase whose compactors have rows of these lengths, some of them masked."""
    torch.manual_seed(0)
    net, criterion, sparsity = Net().eval(), CompactorNorm(), Macs(reduction, **limits).bind(CompactorNorm())
    graph = criterion.protect(net, trace(net, EXAMPLE))
    placements = criterion.placements(net, graph, sparsity.prunable_groups(graph))
    insert_compactors(net, placements)
    module = SimpleNamespace(
        net=net,
        graph=graph,
        placements=placements,
        criterion=criterion,
        sparsity=sparsity,
        pace=MaskingPace(1e-4, 0, 200, 4),
        task=Classification(4),
    )
    set_lengths(module, lengths)
    write_masks(module, {"conv1": [], "conv2": []} | (listed or {}))
    return module


def set_lengths(module: HasCompactors, lengths: dict[str, list[float]]) -> None:
    for placement in module.placements:
        (name,) = placement.rows
        compactors(module.net)[placement.behind[0]].weight.data = torch.diag(torch.tensor(lengths[name]))


def update(masks: RowMasks, module: HasCompactors, step: int = 0) -> dict[str, list[int]]:
    trainer = SimpleNamespace(global_step=step, loggers=[], is_global_zero=True, world_size=1)
    masks.update(trainer, module, masks.granularity)  # type: ignore[arg-type]
    return masked(module)


def kept(module: HasCompactors, remove_masked: bool = False) -> dict[str, list[int]]:
    return RowOutcome(module, 1e-5, remove_masked).kept


# While it is trained


def test_masks_are_what_was_written_and_nothing_else():
    module = forgetting(WHOLE, {"conv1": [5, 0]})
    assert masked(module) == {"conv1": [0, 5], "conv2": []}
    assert compactors(module.net)["bn1"].mask.tolist() == [0, 1, 1, 1, 1, 0]
    write_masks(module, {"conv1": [], "conv2": [2]})  # what was masked before is not, unless said again
    assert masked(module) == {"conv1": [], "conv2": [2]}


def test_the_list_grows_by_the_shortest_rows_of_all_layers_until_the_budget_is_met():
    module = forgetting({"conv1": [0.1, 0.9, 0.3, 1.0, 1.1, 1.2], "conv2": [0.2, 0.4, 0.8, 1.3, 1.4, 1.5]})
    masks = RowMasks(granularity=2)
    assert update(masks, module, 200) == {"conv1": [0], "conv2": [0]}
    assert update(masks, module, 400) == {"conv1": [0, 2], "conv2": [0, 1]}
    met = update(masks, module, 600)
    left = {name: 6 - len(rows) for name, rows in met.items()}
    target = 0.5 * cost(module.graph).macs
    assert MaskingProgress.of(module, {"conv1": torch.ones(6), "conv2": torch.ones(6)}, 1e-5).macs_by_mask <= target
    assert update(masks, module, 800) == met
    assert masks.history["steps"] == [200, 400, 600, 800]
    assert masks.history["masked"] == [2, 4, 12 - sum(left.values()), 12 - sum(left.values())]
    assert masks.history["rows"] == {
        "conv1": [5, 4, left["conv1"], left["conv1"]],
        "conv2": [5, 4, left["conv2"], left["conv2"]],
    }
    assert masks.history["macs_by_mask"][1] > target >= masks.history["macs_by_mask"][2]


def test_a_row_leaves_the_list_where_others_have_become_shorter():
    module = forgetting({"conv1": [0.1] + [1.0] * 5, "conv2": [1.0] * 6})
    masks = RowMasks(granularity=1)
    assert update(masks, module) == {"conv1": [0], "conv2": []}
    set_lengths(module, {"conv1": [0.5] + [1.0] * 5, "conv2": [0.2, 0.3] + [1.0] * 4})
    assert update(masks, module) == {"conv1": [], "conv2": [0, 1]}  # no mask is left over
    assert bool(compactors(module.net)["bn1"].mask.all())


def test_rows_that_a_floor_holds_take_no_place_on_the_list():
    module = forgetting({"conv1": [0.1] * 6, "conv2": [1.0] * 6}, min_channels=4)
    assert update(RowMasks(granularity=3), module) == {"conv1": [0, 1], "conv2": [0]}


@pytest.mark.parametrize(("step", "due"), [(0, False), (10, False), (29, False), (30, True), (31, False), (50, True)])
def test_updates_come_every_so_many_steps_behind_the_start(step, due):
    assert MaskingPace(1e-4, 10, 20, 4).is_update(step) == due


# In the end


def test_what_goes_is_decided_by_length_and_not_by_masks():
    module = forgetting(WHOLE | {"conv1": [0.0, 9e-6, 1.0000001e-5, 1.0, 1e-7, 1.0]}, {"conv1": [0, 3]})
    assert kept(module) == {"conv1": [2, 3, 5], "conv2": [0, 1, 2, 3, 4, 5]}
    assert kept(module, remove_masked=True) == {"conv1": [2, 5], "conv2": [0, 1, 2, 3, 4, 5]}


def test_of_a_layer_whose_rows_are_all_dead_the_longest_stays():
    assert kept(forgetting(WHOLE | {"conv1": [1e-8, 1e-7, 3e-6, 0.0, 2e-6, 0.0]}))["conv1"] == [2]
    assert kept(forgetting(WHOLE | {"conv1": [0.0] * 6}))["conv1"] == [0]


def test_where_all_rows_are_masked_and_forced_out_the_longest_stays():
    module = forgetting(WHOLE | {"conv1": [0.1, 0.5, 0.2, 0.3, 0.4, 0.0]}, {"conv1": [0, 1, 2, 3, 4, 5]})
    assert kept(module, remove_masked=True)["conv1"] == [1]


def test_floors_keep_the_longest_of_the_dead():
    lengths = WHOLE | {"conv1": [1e-8, 1e-7, 3e-6, 0.0, 2e-6, 1.0]}
    assert kept(forgetting(lengths, min_channels=3))["conv1"] == [2, 4, 5]


@pytest.mark.parametrize(
    ("dead", "expected"),
    [
        ([0, 1, 2], [1, 3, 4, 5]),  # three live, and the longest of the others
        ([0, 1], [2, 3, 4, 5]),
        ([0], [0, 1, 2, 3, 4, 5]),  # five live, and there are no eight: no living row goes for the sake of a multiple
    ],
)
def test_multiples_keep_dead_rows_and_never_cost_a_living_one(dead, expected):
    lengths = [[1e-7, 1e-6, 1e-8][row] if row in dead else 1.0 for row in range(6)]
    assert kept(forgetting(WHOLE | {"conv1": lengths}, round_to=4))["conv1"] == expected


def test_what_becomes_of_every_row_is_recorded():
    module = forgetting(WHOLE | {"conv1": [0.0, 0.5, 0.0, 1.0, 1.0, 1.0]}, {"conv1": [0, 1]})
    first, second = RowOutcome(module, 1e-5, False).rows
    assert first == {
        "group": "conv1", "layers": ["conv1"], "rows": 6, "masked": 2, "dead": 2,
        "masked_alive": 1, "unmasked_dead": 1, "kept": 4,
    }  # fmt: skip
    assert (second["masked"], second["dead"], second["kept"]) == (0, 0, 6)


@pytest.mark.parametrize(
    ("conv1", "conv2", "listed", "told"),
    [
        ([0.0] * 4 + [1.0] * 2, [0.0] * 3 + [1.0] * 3, {"conv1": [0, 1, 2, 3]}, None),
        ([1.0] * 6, [1.0] * 6, {}, "too few rows were masked by the end"),
        ([0.5] * 4 + [1.0] * 2, [1.0] * 6, {"conv1": [0, 1, 2, 3]}, "4 masked row(s) not dead yet"),
    ],
)
def test_a_budget_that_is_not_met_is_told_with_the_reason(conv1, conv2, listed, told):
    outcome = RowOutcome(forgetting({"conv1": conv1, "conv2": conv2}, listed), 1e-5, False)
    (note,) = outcome.notes()
    assert note.startswith("Of 12 channels that can be pruned ")
    assert (outcome.missed() or "None").startswith(f"The budget is not met: {told}. " if told else "None")


# What is left behind


class FewImages:
    """What the end of a phase looks at, of random images."""

    num_training, example = 8, EXAMPLE

    def calibration(self, num_images: int, **_) -> Iterator[tuple[Tensor, Tensor]]:
        yield torch.randn(num_images, 3, 8, 8, generator=torch.Generator().manual_seed(1)), torch.arange(num_images) % 4

    def test_batches(self) -> list[tuple[Tensor, Tensor]]:
        return list(self.calibration(20))

    def on_after_batch_transfer(self, batch, dataloader_idx: int) -> tuple[Tensor, Tensor]:
        return tuple(batch)


def concluded(**settings) -> RowMasks:
    module = forgetting(WHOLE | {"conv1": [0.0] * 3 + [1.0] * 3}, {"conv1": [0, 1, 2]})
    masks = RowMasks(**settings)
    update(masks, module, 200)
    alone = SimpleNamespace(broadcast=lambda record: record)
    trainer = SimpleNamespace(datamodule=FewImages(), max_epochs=4, is_global_zero=True, strategy=alone)
    masks.conclude(trainer, module)  # type: ignore[arg-type]
    return masks


def test_what_goes_is_decided_once_and_changes_nothing():
    masks = concluded()
    assert masks.finished
    (cut,) = masks.cuts
    assert cut.kept == {"conv1": [3, 4, 5], "conv2": [0, 1, 2, 3, 4, 5]}
    assert (cut.details["compaction"]["changed"], cut.details["compaction"]["pictures"]) == (0, 20)
    assert cut.metrics_before == cut.metrics_after
    assert cut.error < 1e-6


def test_the_state_is_plain_data_and_comes_back(tmp_path):
    masks = concluded(fold_norms="none")
    torch.save(masks.state_dict(), tmp_path / "state.pt")
    again = RowMasks()
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert again.finished
    assert again.state_dict() == masks.state_dict()


def test_the_state_before_the_end_says_that_nothing_is_decided():
    again = RowMasks()
    again.load_state_dict(RowMasks().state_dict())
    assert not again.finished
    assert again.conversion is None


@pytest.mark.parametrize("finished", [False, True])
def test_an_epoch_is_not_the_best_before_it_is_decided_what_goes(tmp_path, monkeypatch, finished):
    seen = []
    for hook in ("on_validation_end", "on_train_epoch_end"):
        monkeypatch.setattr(ModelCheckpoint, hook, lambda *_, hook=hook: seen.append(hook))
    trainer = SimpleNamespace(callbacks=[concluded() if finished else RowMasks()])
    best = BestCheckpoint(tmp_path, Primary("accuracy"))
    best.on_validation_end(trainer, None)
    best.on_train_epoch_end(trainer, None)
    assert bool(seen) == finished


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"start": -1}, "start is the number of epochs before masks, at least 0, got -1"),
        ({"interval": 0}, "interval must be a whole number of at least 1, got 0"),
        ({"granularity": 1.5}, "granularity must be a whole number of at least 1, got 1.5"),
        ({"threshold": 0.0}, "threshold is a norm between 0 and the 1 that rows start with, got 0.0"),
        ({"fold_norms": "drop"}, "fold_norms must be one of"),
    ],
)
def test_a_setting_outside_its_range_is_refused_by_name(settings, told):
    with pytest.raises(ValueError, match=told):
        RowMasks(**settings)

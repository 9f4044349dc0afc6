"""Figures of a training epoch are those of all its batches, whichever sitting and rank they were trained in."""

from pathlib import Path

import torch
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassAUROC

from pruning_lit.phases.train_figures import MeanLosses, TrainFigures
from tests.commands import in_own_process


def fresh() -> TrainFigures:
    kinds = {"accuracy": MulticlassAccuracy(3), "top2": MulticlassAccuracy(3, top_k=2), "auroc": MulticlassAUROC(3)}
    return TrainFigures(MetricCollection(kinds, prefix="train/", compute_groups=False))


def trained(figures: TrainFigures, batches: range) -> TrainFigures:
    for batch in batches:
        torch.manual_seed(batch)
        size = 3 + batch % 2
        figures.metrics.update(torch.randn(size, 3), torch.randint(3, (size,)))
        figures.add({"loss": torch.rand(()), "term": torch.rand(())}, size)
    return figures


def computed(figures: TrainFigures) -> dict[str, float]:
    return {name: float(each.compute()) for name, each in figures.by_name().items()}


def test_an_epoch_in_two_sittings_has_the_figures_of_one_in_one():
    for done in range(6):
        resumed = fresh()
        resumed.load(trained(fresh(), range(done)).state(), 0, 1, torch.device("cpu"))
        assert computed(trained(resumed, range(done, 6))) == computed(trained(fresh(), range(6)))


def test_figures_of_more_or_fewer_ranks_add_up_to_those_of_all():
    ranks = [each for part in (range(2), range(2, 3), range(3, 6)) for each in trained(fresh(), part).state()]
    whole, once = computed(trained(fresh(), range(6))), fresh()
    once.load(ranks, 0, 1, torch.device("cpu"))
    assert computed(once).keys() == whole.keys()
    torch.testing.assert_close([*computed(once).values()], [*whole.values()])
    spread = [fresh() for _ in range(5)]
    for rank, figures in enumerate(spread):
        figures.load(ranks, rank, 5, torch.device("cpu"))
    assert {tuple(figures.by_name()) for figures in spread} == {tuple(whole)}  # none computes without the others
    assert [float(figures.losses["loss"].weight) for figures in spread] == [7.0, 3.0, 11.0, 0.0, 0.0]
    assert [len(figures.metrics["auroc"].preds) for figures in spread] == [2, 1, 3, 1, 1]


def test_a_loss_weighs_as_many_examples_as_it_is_the_mean_of():
    figures = fresh()
    figures.add({"loss": torch.tensor(1.0)}, 3)
    figures.add({"loss": torch.tensor(3.0)}, 1)
    assert float(figures.by_name()["train/loss"].compute()) == 1.5
    figures.add({"loss": torch.tensor(float("nan"))}, 1)
    assert torch.isnan(figures.by_name()["train/loss"].compute())


def test_without_a_batch_there_are_no_figures():
    assert fresh().by_name() == {}
    assert fresh().state() == [{}]


def of_one_rank(rank: int, folder: Path) -> None:
    store = torch.distributed.FileStore(str(folder / "store"), 3)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=3, store=store)
    losses, means = MeanLosses(), []
    for _ in range(2):
        for value, size in [[(1.0, 2)], [(4.0, 2), (2.0, 1)], []][rank]:
            losses.add({"loss": torch.tensor(value)}, size)
        means.append(losses.take(torch.device("cpu")))
    torch.save(means, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@in_own_process
def test_losses_are_means_over_the_examples_of_all_processes(tmp_path):
    torch.multiprocessing.start_processes(of_one_rank, (tmp_path,), nprocs=3, start_method="fork")
    for rank in range(3):
        assert torch.load(tmp_path / f"{rank}.pt", weights_only=True) == [{"loss": torch.tensor(12 / 5)}] * 2

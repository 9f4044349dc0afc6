"""Figures of a training epoch: mean losses and metrics, over all of it, also where it is trained in two sittings."""

import warnings
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

State = dict[str, Any]  # of a metric: its sums or lists, and how often it was updated


class Mean(Metric):
    """Mean of values, each with a weight; one that is no number makes it none.

    torchmetrics' own leaves such values out, or forgets the weights.
    """

    total: Tensor
    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("total", "weight"):
            self.add_state(name, torch.zeros(()), dist_reduce_fx="sum")

    def update(self, value: Tensor, weight: float) -> None:
        """Take a value in."""
        self.total += value * weight
        self.weight += weight

    def compute(self) -> Tensor:
        """Mean of the values so far, a scalar."""
        return self.total / self.weight


class MeanLosses:
    """Mean losses by name, over the examples of all processes.

    Lightning's own, of ``log(…, sync_dist=True)``, are means of the processes' sums over a whole number of examples
    each: too large where processes have other numbers of them.
    """

    def __init__(self) -> None:
        self.losses: dict[str, Mean] = {}

    def add(self, losses: Mapping[str, Tensor], size: int) -> None:
        """Take the losses of a batch in.

        Args:
            losses: scalars by name.
            size: examples in the batch, its weight in the mean.
        """
        for name, value in losses.items():
            if name not in self.losses:
                self.losses[name] = Mean().to(value.device)
            self.losses[name].update(value.detach(), size)

    def take(self, device: torch.device) -> dict[str, Tensor]:
        """The means so far, the same on all ranks, and begin anew; to be called on all of them."""
        names = [*dict.fromkeys(name for rank in over_ranks([*self.losses]) for name in rank)]
        for name in names:  # a rank may have had no example
            self.losses.setdefault(name, Mean().to(device))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torchmetrics' on a mean of nothing yet
            means = {name: self.losses[name].compute() for name in names}
        self.losses = {}
        return means


def over_ranks(own: Any) -> list[Any]:
    """Plain data of all ranks; to be called on all of them."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [own]
    gathered: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(gathered, own)
    return gathered


class TrainFigures(MeanLosses):
    """Running figures of the epoch under way, which a checkpoint within it holds.

    Every rank has those of its own batches, and so they are kept: added up in another order, a resumed epoch's figures
    would differ in the last digits.

    Args:
        metrics: of the task, with the prefix of their names.
        prefix: in front of the losses' names.
    """

    def __init__(self, metrics: MetricCollection, prefix: str = "train/") -> None:
        super().__init__()
        self.metrics, self.prefix = metrics, prefix

    def by_name(self) -> dict[str, Metric]:
        """All figures, the same on all ranks; none before anything was counted."""
        if not self.losses:
            return {}
        return {f"{self.prefix}{name}": metric for name, metric in self.losses.items()} | dict(self.metrics.items())

    def state(self) -> list[dict[str, State]]:
        """Plain data of every rank; to be called on all of them."""
        return over_ranks({name: _state(metric) for name, metric in self.by_name().items()})

    def load(self, ranks: list[dict[str, State]], rank: int, world_size: int, device: torch.device) -> None:
        """Go on from figures of that many ranks, which may have been more or fewer.

        Args:
            ranks: as ``state`` gives them.
            rank: of this process.
            world_size: number of processes now.
            device: of the figures.
        """
        known: dict[str, Metric] = dict(self.metrics.items())
        none_of_its_own = [{name: _emptied(state) for name, state in figures.items()} for figures in ranks[:1]]
        for figures in ranks[rank::world_size] or none_of_its_own:  # all ranks have to compute all of them together
            for name, state in figures.items():
                if name not in known:
                    known[name] = self.losses[name.removeprefix(self.prefix)] = Mean()
                    known[name].to(device)
                _merge(known[name], state)


def _state(metric: Metric) -> State:
    states = {name: _on_cpu(value) for name, value in metric.metric_state.items()}
    return {"updates": metric.update_count, "sums": states}


def _emptied(state: State) -> State:
    """State of a metric that has seen a batch of no examples."""
    sums = {name: [each[:0] for each in value[:1]] for name, value in state["sums"].items() if isinstance(value, list)}
    return {"updates": 1, "sums": sums}


def _merge(metric: Metric, state: State) -> None:
    """Take what another metric of the kind has counted into this one."""
    for name, there in state["sums"].items():
        here, reduce = getattr(metric, name), cast(Any, metric._reductions[name])
        if isinstance(there, list):
            merged: Any = [*here, *(each.to(metric.device) for each in there)]
        elif metric.update_called and reduce is not None:
            merged = reduce(torch.stack([here, there.to(metric.device)]))
        else:
            merged = there.to(metric.device)
        setattr(metric, name, merged)
    metric._update_count += state["updates"]
    metric._computed = None


def _on_cpu(value: Any) -> Any:
    return [each.cpu() for each in value] if isinstance(value, list) else value.cpu()

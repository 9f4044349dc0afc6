"""Which rows of compactors are to be forgotten: masks that grow every so many steps, and what comes of them."""

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.optim import Optimizer

from pruning_lit.callbacks.agreement import require_same_on_all_ranks
from pruning_lit.callbacks.carry import share_buffers
from pruning_lit.callbacks.pruning import Pruning
from pruning_lit.channels import ChannelGraph, ChannelGroup, Seat, compactors, cost_of_widths, gone, verify
from pruning_lit.channels.conversion import Conversion, Norms, require_norms
from pruning_lit.criteria import Criterion
from pruning_lit.sparsity import Dense, Sparsity
from pruning_lit.sparsity.gradual import updated
from pruning_lit.tasks import compare

log = logging.getLogger(__name__)
DECADES = ("1e-03", "1e-04", "1e-05")
NUM_VERIFIED = 8  # pictures on which the conversion is verified


class Forgetting(Protocol):
    """What a phase has to offer so that its compactors can be masked.

    Attributes:
        net: the network, with compactors.
        graph: the groups of the network without them, in which what cannot be pruned is protected.
        seats: where they are.
        criterion, sparsity: how long rows are, and how many channels are to stay.
    """

    net: nn.Module
    graph: ChannelGraph
    seats: Sequence[Seat]
    criterion: Criterion
    sparsity: Sparsity


@dataclass(frozen=True)
class Standing:
    """How far forgetting is.

    Attributes:
        left: by group, the rows that are not masked.
        dead: number of rows that are shorter than the threshold.
        macs_by_mask, macs_by_norm: multiply-accumulates without the masked rows, and without the dead ones.
        masked: number of masked rows.
    """

    left: dict[str, int]
    masked: int
    dead: int
    macs_by_mask: int
    macs_by_norm: int

    @classmethod
    def of(cls, module: Forgetting, norms: Mapping[str, Tensor], threshold: float) -> "Standing":
        """Of a network whose rows have these lengths."""
        listed = masked(module)
        left = {name: len(norms[name]) - len(rows) for name, rows in listed.items()}
        dead = {name: int((each < threshold).sum()) for name, each in norms.items()}
        alive = {name: max(1, len(norms[name]) - each) for name, each in dead.items()}
        by_mask, by_norm = (cost_of_widths(module.graph, widths).macs for widths in (left, alive))
        return cls(left, sum(map(len, listed.values())), sum(dead.values()), by_mask, by_norm)

    def counts(self, step: int) -> dict[str, int]:
        """One entry of the history: after so many optimizer steps."""
        macs = {"macs_by_mask": self.macs_by_mask, "macs_by_norm": self.macs_by_norm}
        return {"steps": step, "masked": self.masked} | macs

    def figures(self, dense_macs: int) -> dict[str, float]:
        """For loggers: numbers of rows, and shares of the dense network's MACs."""
        rows = {"rows/masked": float(self.masked), "rows/dead": float(self.dead)}
        shares = {"rows/macs_by_mask": self.macs_by_mask, "rows/macs_by_norm": self.macs_by_norm}
        return rows | {name: macs / dense_macs for name, macs in shares.items()}


class RowMasks(Pruning):
    """Masks rows of compactors, the shortest first, until a budget is met; folds the compactors away in the end.

    Every ``interval`` optimizer steps the rows are chosen anew from all, ``granularity`` more than before; once the
    budget is met, those that meet it now. At the end of the last epoch the rows that are shorter than ``threshold`` are
    removed, whether they are masked or not, and layers and compactors become single, narrower layers: what the network
    computes stays. All state is in the masks, which are buffers of the compactors, and in the number of steps.

    Args:
        start: epochs before masks, not necessarily whole ones; the first update comes ``interval`` steps later.
        interval: optimizer steps between two updates.
        granularity: rows by which the list grows at each.
        threshold: length below which a row is dead.
        force_masked: remove masked rows that are not dead, too, which changes what the network computes.
        norms: what becomes of the batch norms in front of compactors, see ``Conversion``.

    Attributes:
        start_step: optimizer steps before masks, set by the phase once the length of an epoch is known.
        history: of every update the ``steps`` done, the rows ``masked``, the MACs of the network without the masked
            rows (``macs_by_mask``) and without the dead ones (``macs_by_norm``), and by group the ``rows`` not masked.

    Raises:
        ValueError: a setting is out of its range.

    Source: Ding et al. 2021, "ResRep: Lossless CNN Pruning via Decoupling Remembering and Forgetting", section 3.3.
    """

    def __init__(
        self,
        start: float = 5,
        interval: int = 200,
        granularity: int = 4,
        threshold: float = 1e-5,
        force_masked: bool = False,
        norms: Norms = "fold",
    ) -> None:
        if not isinstance(start, int | float) or not 0 <= start < float("inf"):
            raise ValueError(f"start is the number of epochs before masks, at least 0, got {start!r}")
        for name, value in (("interval", interval), ("granularity", granularity)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
        if not isinstance(threshold, float) or not 0 < threshold < 1:
            raise ValueError(f"threshold is a length between 0 and the 1 that rows start with, got {threshold!r}")
        require_norms(norms)
        self.start, self.interval, self.granularity = start, interval, granularity
        self.threshold, self.force_masked, self.norms = threshold, force_masked, norms
        self.start_step = 0
        self.cuts = []
        self.conversion: Conversion | None = None
        self.history: dict[str, Any] = {"steps": [], "masked": [], "macs_by_mask": [], "macs_by_norm": [], "rows": {}}

    @property
    def finished(self) -> bool:
        """Whether it is decided which rows go."""
        return bool(self.cuts)

    def is_due(self, step: int) -> bool:
        """Whether masks are updated when so many optimizer steps have been done."""
        since = step - self.start_step
        return since > 0 and since % self.interval == 0

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Update the masks when it is time: once per optimizer step, in front of the edit that goes by them."""
        if self.is_due(trainer.global_step):
            self.update(trainer, cast(Forgetting, pl_module))

    def update(self, trainer: Trainer, module: Forgetting) -> None:
        """Choose the rows anew, and write all masks."""
        norms = row_norms(module)
        dense = Dense.of(module.graph)
        listed = updated(module.sparsity, module.graph, norms, dense, masked(module), self.granularity)
        require_same_on_all_ranks(trainer, listed)
        write_masks(module, listed)
        standing = Standing.of(module, norms, self.threshold)
        for key, value in standing.counts(trainer.global_step).items():
            self.history[key].append(value)
        for name, rows in standing.left.items():
            self.history["rows"].setdefault(name, []).append(rows)
        for logger in trainer.loggers if trainer.is_global_zero else ():
            logger.log_metrics(standing.figures(dense.macs), trainer.global_step)
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_histogram("rows/norms", torch.cat([*norms.values()]), trainer.global_step)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log how far forgetting is; after the last epoch decide what goes, so that the checkpoint knows it."""
        module = cast(Forgetting, pl_module)
        standing = Standing.of(module, row_norms(module), self.threshold)
        pl_module.log_dict(standing.figures(Dense.of(module.graph).macs), rank_zero_only=True)
        if trainer.current_epoch + 1 == trainer.max_epochs and not self.finished:
            share_buffers(module.net)
            if trainer.is_global_zero:
                self.conclude(trainer, module)
            trainer.strategy.barrier()

    def conclude(self, trainer: Trainer, module: Forgetting) -> None:
        """Decide what goes, and convert a copy to see what comes of it; the network itself is trained no more."""
        data, graph = trainer.datamodule, module.graph  # type: ignore[attr-defined]
        norms, listed = row_norms(module), masked(module)
        groups = module.sparsity.population(graph)
        kept = {group.name: self.kept(module, group, norms[group.name], listed[group.name]) for group in groups}
        self.conversion = Conversion(module.seats, kept, self.norms)
        converted = copy.deepcopy(module.net)
        example = data.example.to(next(converted.parameters()))
        self.conversion.convert(converted, example)
        (pictures,) = data.calibration(min(NUM_VERIFIED, data.num_training), seed=0, batch_size=NUM_VERIFIED)
        error = verify(converted, module.net, pictures.to(example))
        both = compare(module.net, converted, data)
        dense, counted = Dense.of(graph), cost_of_widths(graph, {name: len(each) for name, each in kept.items()})
        rows = [self._fate(group, module.seats, norms[group.name], listed[group.name], kept[group.name])
                for group in groups]  # fmt: skip
        self.cuts.append(
            {
                "epoch": trainer.current_epoch + 1,  # in front of which, as for every cut
                "kept": kept,
                "gone": gone(graph, kept),
                "groups": [
                    {
                        "name": group.name,
                        "size": group.size * group.multiplicity,
                        "protected": module.sparsity.limits.why_whole(group),
                    }
                    for group in graph.groups
                ],
                "scores": norms,
                "accuracy_before": both.before,
                "accuracy_after": both.after,
                "macs": counted.macs,
                "notes": self._notes(module, norms, rows),
                "error": error,
                "compaction": {
                    "target_macs": float(module.sparsity.target(graph, norms, dense)),
                    "dense_macs": dense.macs,
                    "threshold": self.threshold,
                    "history": self.history,
                    "rows": rows,
                    "below": {key: sum(int((each < float(key)).sum()) for each in norms.values()) for key in DECADES},
                    "forced": self.force_masked,
                    "changed": both.changed,
                    "pictures": both.pictures,
                    "error": error,
                },
            }
        )
        total, stay = (sum(each[key] for each in rows) for key in ("rows", "kept"))
        log.info("%d of %d rows go; %d of %d predictions change", total - stay, total, both.changed, both.pictures)

    def kept(self, module: Forgetting, group: ChannelGroup, norms: Tensor, listed: Sequence[int]) -> list[int]:
        """The positions of a group that stay, ascending: the rows that live, and what floors and multiples add."""
        goes = norms < self.threshold
        if self.force_masked:
            goes[list(listed)] = True
        width = module.sparsity.limits.fit(group, Dense.of(module.graph), int((~goes).sum()))
        order = sorted(
            range(group.size), key=lambda position: (bool(goes[position]), -float(norms[position]), position)
        )
        return sorted(order[:width])

    def _fate(
        self, group: ChannelGroup, seats: Sequence[Seat], norms: Tensor, listed: Sequence[int], kept: Sequence[int]
    ) -> dict[str, Any]:
        """What has become of a group's rows."""
        dead, on_list = norms < self.threshold, torch.zeros(group.size, dtype=torch.bool)
        on_list[list(listed)] = True
        return {
            "group": group.name,
            "layers": [layer for seat in seats if group.name in seat.rows for layer in seat.layers],
            "rows": group.size,
            "masked": len(listed),
            "dead": int(dead.sum()),
            "masked_alive": int((on_list & ~dead).sum()),
            "unmasked_dead": int((dead & ~on_list).sum()),
            "kept": len(kept),
        }

    def _notes(self, module: Forgetting, norms: Mapping[str, Tensor], rows: Sequence[Mapping[str, Any]]) -> list[str]:
        """What a reader has to know, in sentences."""
        total, kept, alive = (sum(each[key] for each in rows) for key in ("rows", "kept", "masked_alive"))
        gone = total - kept
        notes = [f"Of {total:,} channels that can be pruned {gone:,} went ({100 * gone / total:.2f} %)."]
        widths = {each["group"]: each["kept"] for each in rows}
        if not module.sparsity.meets(module.graph, norms, widths, Dense.of(module.graph)):
            why = f"{alive:,} masked rows are not dead yet" if alive else "too few rows were masked by the end"
            notes.append(f"The budget is not met: {why}. Train longer, or pull harder; fit_to=epochs finds a pace.")
        return notes

    def state_dict(self) -> dict[str, Any]:
        """What the report tells, and what makes the network an ordinary one."""
        conversion = self.conversion.state_dict() if self.conversion else None
        return {"cuts": self.cuts, "history": self.history, "conversion": conversion}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where the checkpoint was written."""
        self.cuts, self.history = state_dict["cuts"], state_dict["history"]
        state = state_dict["conversion"]
        self.conversion = Conversion.from_state(state) if state else None


def row_norms(module: Forgetting) -> dict[str, Tensor]:
    """By group that can be pruned, the lengths of its channels' rows, float64, on the CPU."""
    groups = module.sparsity.population(module.graph)
    no_pictures: Any = None  # rows are looked at, not maps
    return module.criterion.scores(module.net, module.graph, groups, no_pictures)


def masked(module: Forgetting) -> dict[str, list[int]]:
    """By group the positions whose rows are masked, ascending."""
    there, listed = compactors(module.net), dict[str, list[int]]()
    for seat in module.seats:
        mask = there[seat.sites[0]].mask.cpu()
        listed |= {name: (mask[list(rows)] == 0).nonzero().flatten().tolist() for name, rows in seat.rows.items()}
    return listed


def write_masks(module: Forgetting, listed: Mapping[str, Sequence[int]]) -> None:
    """Mask these positions, and no others."""
    there = compactors(module.net)
    for seat in module.seats:
        mask = there[seat.sites[0]].mask
        mask.fill_(1)
        mask[[rows[position] for name, rows in seat.rows.items() for position in listed[name]]] = 0

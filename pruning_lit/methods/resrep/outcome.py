"""Outcome of masking: the rows of compactors that go when training is over, and the network without them."""

import copy
from collections.abc import Mapping
from typing import Any

import torch

from pruning_lit.callbacks.pruning import inputs_to_verify, record_cut
from pruning_lit.channels import ChannelGroup, Kept, cost_of_widths, verify
from pruning_lit.methods.resrep.conversion import Conversion
from pruning_lit.methods.resrep.rows import HasCompactors, masked, row_norms
from pruning_lit.records.cut import CutRecord
from pruning_lit.sparsity import DenseCost
from pruning_lit.tasks import compare
from pruning_lit.tasks.base import like

DECADES = ("1e-03", "1e-04", "1e-05")


class RowOutcome:
    """Choose the rows that go, and record what comes of it.

    Args:
        module: the phase; its network is left alone.
        threshold: norm below which a row is dead, and goes.
        remove_masked: masked rows go, too, whether they are dead or not.

    Attributes:
        kept: by group the positions that stay, ascending.
        rows: by group, in the order of the network, what has become of its rows, for the report.
    """

    def __init__(self, module: HasCompactors, threshold: float, remove_masked: bool) -> None:
        self.module, self.threshold, self.remove_masked = module, threshold, remove_masked
        self.norms, self.masked, self.dense = row_norms(module), masked(module), DenseCost.of(module.graph)
        groups = module.sparsity.prunable_groups(module.graph)
        self.kept = {group.name: self._stays(group) for group in groups}
        self.rows = [self._row(group) for group in groups]

    def __str__(self) -> str:
        total, stay = self._total("rows"), self._total("kept")
        return f"{total - stay} of {total} rows go, {self._total('masked')} are masked"

    @property
    def num_spared(self) -> int:
        """Masked rows that stay because they are not dead."""
        return 0 if self.remove_masked else self._total("masked_alive")

    def _stays(self, group: ChannelGroup) -> list[int]:
        """The rows that live, and those that floors and multiples add, of the others those with the largest norms."""
        norms = self.norms[group.name]
        goes = norms < self.threshold
        if self.remove_masked:
            goes[self.masked[group.name]] = True
        width = self.module.sparsity.limits.fit(group, self.dense, int((~goes).sum()))
        order = sorted(range(group.size), key=lambda at: (bool(goes[at]), -float(norms[at]), at))
        return sorted(order[:width])

    def _row(self, group: ChannelGroup) -> dict[str, Any]:
        dead, is_masked = self.norms[group.name] < self.threshold, torch.zeros(group.size, dtype=torch.bool)
        is_masked[self.masked[group.name]] = True
        return {
            "group": group.name,
            "layers": [
                layer
                for placement in self.module.placements
                if group.name in placement.rows
                for layer in placement.layers
            ],
            "rows": group.size,
            "masked": int(is_masked.sum()),
            "dead": int(dead.sum()),
            "masked_alive": int((is_masked & ~dead).sum()),
            "unmasked_dead": int((dead & ~is_masked).sum()),
            "kept": len(self.kept[group.name]),
        }

    def _total(self, key: str) -> int:
        return sum(row[key] for row in self.rows)

    def record(self, conversion: Conversion, data: Any, epoch: int, history: Mapping[str, Any]) -> CutRecord:
        """Record of the cut, found by converting a copy of the network.

        Args:
            conversion: with what is kept.
            data: the data module; both networks are held against each other on its test images.
            epoch: in front of which the network gets its final width.
            history: see ``RowMasks``.
        """
        net, graph, task = self.module.net, self.module.graph, self.module.task
        converted = copy.deepcopy(net)
        self.keep_also(conversion.convert(task.view(converted), like(data.example, next(net.parameters()))))
        error = verify(task.view(converted), task.view(net), inputs_to_verify(data, task, net))
        both = compare(net, converted, data, task)
        counted = cost_of_widths(graph, {name: len(positions) for name, positions in self.kept.items()})
        compaction = {
            "target_macs": float(self.module.sparsity.macs_target(graph, self.norms, self.dense)),
            "dense_macs": self.dense.macs,
            "macs": counted.macs,
            "threshold": self.threshold,
            "history": dict(history),
            "rows": self.rows,
            "below": {key: int((torch.cat([*self.norms.values()]) < float(key)).sum()) for key in DECADES},
            "forced": self.remove_masked,
            "changed": both.changed,
            "pictures": both.examples,
            "error": error,
        }
        return record_cut(
            graph,
            self.kept,
            self.module.sparsity.limits,
            epoch=epoch,
            cost=counted,
            error=error,
            notes=self.notes(),
            before=both.before,
            after=both.after,
            missed=self.missed(),
            compaction=compaction,
        )

    def keep_also(self, really: Kept) -> None:
        """Keep also the rows that a conversion could not do without."""
        self.kept = {name: list(really.get(name, positions)) for name, positions in self.kept.items()}
        for row in self.rows:
            row["kept"] = len(self.kept[row["group"]])

    def notes(self) -> list[str]:
        """Notes for the report, in sentences."""
        total, stay = self._total("rows"), self._total("kept")
        return [f"Of {total:,} channels that can be pruned {total - stay:,} went ({100 * (1 - stay / total):.2f} %)."]

    def missed(self) -> str | None:
        """Why the budget is not met, in a sentence; None where it is."""
        alive, widths = self._total("masked_alive"), {name: len(positions) for name, positions in self.kept.items()}
        if self.module.sparsity.meets(self.module.graph, self.norms, widths, self.dense):
            return None
        why = f"{alive:,} masked row(s) not dead yet" if alive else "too few rows were masked by the end"
        return (
            f"The budget is not met: {why}. Train longer, or raise the lasso strength; method.auto_pace=true finds "
            "a pace."
        )

"""What becomes of the rows of compactors when training is over: which go, and what the network is without them."""

import copy
from collections.abc import Mapping
from typing import Any

import torch

from pruning_lit.callbacks.pruning import CutRecord, pictures_to_verify, record_cut
from pruning_lit.channels import ChannelGroup, Kept, cost_of_widths, verify
from pruning_lit.methods.resrep.conversion import Conversion
from pruning_lit.methods.resrep.rows import Forgetting, masked, row_norms
from pruning_lit.sparsity import DenseCost
from pruning_lit.tasks import compare

DECADES = ("1e-03", "1e-04", "1e-05")


class DeadRows:
    """Decides which rows go, and records what comes of it.

    Args:
        module: the phase; its network is left alone.
        threshold: length below which a row is dead, and goes.
        force_masked: masked rows go, too, whether they are dead or not.

    Attributes:
        kept: by group the positions that stay, ascending.
        fates: by group, in the order of the network, what has become of its rows, for the report.
    """

    def __init__(self, module: Forgetting, threshold: float, force_masked: bool) -> None:
        self.module, self.threshold, self.force_masked = module, threshold, force_masked
        self.norms, self.listed, self.dense = row_norms(module), masked(module), DenseCost.of(module.graph)
        groups = module.sparsity.prunable_groups(module.graph)
        self.kept = {group.name: self._stays(group) for group in groups}
        self.fates = [self._fate(group) for group in groups]

    def __str__(self) -> str:
        total, stay = self._total("rows"), self._total("kept")
        return f"{total - stay} of {total} rows go, {self._total('masked')} are masked"

    @property
    def num_spared(self) -> int:
        """Masked rows that stay because they are not dead."""
        return 0 if self.force_masked else self._total("masked_alive")

    def _stays(self, group: ChannelGroup) -> list[int]:
        """The rows that live, and those that floors and multiples add, the longest of the others."""
        norms = self.norms[group.name]
        goes = norms < self.threshold
        if self.force_masked:
            goes[self.listed[group.name]] = True
        width = self.module.sparsity.limits.fit(group, self.dense, int((~goes).sum()))
        order = sorted(range(group.size), key=lambda at: (bool(goes[at]), -float(norms[at]), at))
        return sorted(order[:width])

    def _fate(self, group: ChannelGroup) -> dict[str, Any]:
        dead, on_list = self.norms[group.name] < self.threshold, torch.zeros(group.size, dtype=torch.bool)
        on_list[self.listed[group.name]] = True
        return {
            "group": group.name,
            "layers": [
                layer
                for placement in self.module.placements
                if group.name in placement.rows
                for layer in placement.layers
            ],
            "rows": group.size,
            "masked": int(on_list.sum()),
            "dead": int(dead.sum()),
            "masked_alive": int((on_list & ~dead).sum()),
            "unmasked_dead": int((dead & ~on_list).sum()),
            "kept": len(self.kept[group.name]),
        }

    def _total(self, key: str) -> int:
        return sum(fate[key] for fate in self.fates)

    def record(self, conversion: Conversion, data: Any, epoch: int, history: Mapping[str, Any]) -> CutRecord:
        """What a cut leaves for the report, found by converting a copy of the network.

        Args:
            conversion: with what is kept.
            data: the data module; both networks are held against each other on its test pictures.
            epoch: in front of which the network gets its final width.
            history: see ``RowMasks``.
        """
        net, graph = self.module.net, self.module.graph
        example = data.example.to(next(net.parameters()))
        converted = copy.deepcopy(net)
        self.go_by(conversion.convert(converted, example))
        error = verify(converted, net, pictures_to_verify(data).to(example))
        both = compare(net, converted, data, self.module.task)
        counted = cost_of_widths(graph, {name: len(positions) for name, positions in self.kept.items()})
        compaction = {
            "target_macs": float(self.module.sparsity.macs_target(graph, self.norms, self.dense)),
            "dense_macs": self.dense.macs,
            "macs": counted.macs,
            "threshold": self.threshold,
            "history": dict(history),
            "rows": self.fates,
            "below": {key: self._num_shorter(float(key)) for key in DECADES},
            "forced": self.force_masked,
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
            compaction=compaction,
        )

    def go_by(self, really: Kept) -> None:
        """Go by what a conversion keeps really, which may be more than was asked for."""
        self.kept = {name: list(really.get(name, positions)) for name, positions in self.kept.items()}
        for fate in self.fates:
            fate["kept"] = len(self.kept[fate["group"]])

    def _num_shorter(self, length: float) -> int:
        return sum(int((norms < length).sum()) for norms in self.norms.values())

    def notes(self) -> list[str]:
        """What a reader has to know, in sentences."""
        total, stay, alive = (self._total(key) for key in ("rows", "kept", "masked_alive"))
        notes = [f"Of {total:,} channels that can be pruned {total - stay:,} went ({100 * (1 - stay / total):.2f} %)."]
        widths = {name: len(positions) for name, positions in self.kept.items()}
        if not self.module.sparsity.meets(self.module.graph, self.norms, widths, self.dense):
            why = f"{alive:,} masked row(s) not dead yet" if alive else "too few rows were masked by the end"
            notes.append(f"The budget is not met: {why}. Train longer, or pull harder; fit_to=epochs finds a pace.")
        return notes

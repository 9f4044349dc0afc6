"""Section "What was explored" of the report: stages on the way to the widths of a network, and what training took."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Any, ClassVar, Self

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from pruning_lit.records.cut import CutRecord
from pruning_lit.reports.heat_map import HeatMap, heat_map_figure, legend_above, prepare_macs, prepare_time
from pruning_lit.reports.plots import KEPT, REMOVED, without_frame
from pruning_lit.reports.wording import amount, markdown_table, percent

DRAWN = "#9CCBE8"  # between what is removed and what is kept
EXPLORED = """\
This network was not trained whole and then pruned: it began with the channels whose filters happened to be largest, and
tried the others in the course of training. At every *stage* some channels were kept for their own sake, because they
matter most; of all others, those just left out as well as those long *dormant*, some were drawn to come back until the
next stage. The rest fell dormant or stayed so. The share that comes back falls by a schedule, and at the last stage it
is nothing: since then the network has been final."""
PICTURE = "active channels, MACs, and the channels that came and went, from stage to stage"
EXECUTED = {
    "narrow": "Between the stages only active channels were there and computed",
    "mask": "Dormant channels were zero and computed all the same",
}
RETURNED = {
    "mru": "with the values they last had",
    "ema": "with moving averages of the values they had had",
    "zero": "without effect at first: what read them had zeros",
    "random": "with the values of a newly built network",
}
WIDTHS = {  # of a group, in the table, by heading
    "in all": "size",
    "at the start": "first",
    "widest": "widest",
    "narrowest": "narrowest",
    "in the end": "final",
}
NUMBERS = (  # of an exploration, in ``report.json``
    *("unit", "execution", "regrow_init", "sparsity", "target_macs", "dense_macs", "short"),
    *("num_stages", "first_stage", "last_stage", "first_macs", "final_macs"),
    *("num_grown", "num_woken", "num_pruned", "survival", "share_to_last_stage", "share_of_training"),
)


@dataclass(frozen=True)
class Exploration:
    """The stages at which channels of a network were pruned and others came back.

    Attributes:
        unit: ``epochs`` or ``steps`` of the optimizer, at which stages were.
        sparsity: share of the channels that was to go in the end; None: a target of MACs was set.
        dense_macs: of the whole network.
        stages: what the network began with, then every stage: ``at``; ``share`` of the channels to come back;
            ``num_kept`` for their own sake, ``num_grown`` that came back, ``num_pruned`` that fell dormant;
            ``survived``, of those that came back at the stage before, the share now kept for its own sake, None where
            there were none; ``macs`` and, by group, ``widths`` from then on.
        sizes: by group, channels of the whole network, in its order.
        spent: ``macs`` of all forward passes before the last stage, those of a batch counted for one image of it, and
            ``dense_macs``, what the whole network would have taken.
        share_of_training: the ratio of the two over the whole training; None: not known.
        target_macs: MACs that were to be left at most; None: a share of the channels was set.
        execution, regrow_init: the settings of these names; None: not known.
        short: groups whose filters have fewer weights than there are filters.
    """

    unit: str
    sparsity: float | None
    dense_macs: int
    stages: Sequence[Mapping[str, Any]]
    sizes: Mapping[str, int]
    spent: Mapping[str, int]
    share_of_training: float | None = None
    target_macs: int | None = None
    execution: str | None = None
    regrow_init: str | None = None
    short: Sequence[str] = field(default_factory=list)

    @property
    def moments(self) -> list[int]:
        """When the stages were, ascending; the first is the begin of training."""
        return [stage["at"] for stage in self.stages]

    @property
    def shares(self) -> NDArray[np.float64]:
        """Shares of the channels that are active, shape ``(groups, stages)``, 0 to 1."""
        widths = [[stage["widths"][name] for stage in self.stages] for name in self.sizes]
        totals = np.array([[size] for size in self.sizes.values()], dtype=np.float64)
        return np.array(widths, dtype=np.float64).reshape(len(self.sizes), len(self.stages)) / totals

    @property
    def woken(self) -> list[int]:
        """Per stage, the number of channels that had been dormant and now are active; at the begin 0."""
        active = [sum(stage["widths"].values()) for stage in self.stages]
        gained = [after - before for before, after in pairwise(active)]
        return [0, *(more + stage["num_pruned"] for more, stage in zip(gained, self.stages[1:], strict=True))]

    @property
    def survival(self) -> float | None:
        """Share of regrown channels that were kept for their own sake at the stage after; None: nothing was regrown."""
        pairs = [(before["num_grown"], stage["survived"]) for before, stage in pairwise(self.stages)]
        known = [(grown, share) for grown, share in pairs if share is not None]
        return sum(grown * share for grown, share in known) / sum(grown for grown, _ in known) if known else None

    @property
    def num_stages(self) -> int:
        """Number of stages, without the begin of training."""
        return len(self.stages) - 1

    @property
    def first_stage(self) -> int:
        """When the first stage was."""
        return self.moments[1]

    @property
    def last_stage(self) -> int:
        """When the last stage was."""
        return self.moments[-1]

    @property
    def first_macs(self) -> int:
        """MACs of the network that training began with."""
        return int(self.stages[0]["macs"])

    @property
    def final_macs(self) -> int:
        """MACs of the network after the last stage."""
        return int(self.stages[-1]["macs"])

    @property
    def num_grown(self) -> int:
        """Number of times that a channel was regrown."""
        return sum(stage["num_grown"] for stage in self.stages[1:])

    @property
    def num_woken(self) -> int:
        """Number of times that a channel was regrown that had been pruned."""
        return sum(self.woken)

    @property
    def num_pruned(self) -> int:
        """Number of times that a channel was pruned."""
        return sum(stage["num_pruned"] for stage in self.stages[1:])

    @property
    def share_to_last_stage(self) -> float | None:
        """Forward MACs until the last stage, over those of the dense network."""
        return self.spent["macs"] / self.spent["dense_macs"] if self.spent["dense_macs"] else None

    @property
    def groups(self) -> list[dict[str, Any]]:
        """Widths of every group: ``size``, at ``first``, ``widest``, ``narrowest``, ``final``."""
        told = []
        for name, size in self.sizes.items():
            widths = [stage["widths"][name] for stage in self.stages]
            extremes = {"widest": max(widths), "narrowest": min(widths)}
            told.append({"group": name, "size": size, "first": widths[0], **extremes, "final": widths[-1]})
        return told

    def data(self) -> dict[str, Any]:
        """All but the course, for the report."""
        return {name: getattr(self, name) for name in NUMBERS} | {"groups": self.groups}

    def markdown(self) -> str:
        """Sentences on stages, channels, MACs of the network, and MACs of its training; and a table."""
        tell = (_channels, _settings, _choice, _traffic, _network, _training)
        lines = [f"- {line}" for line in (each(self) for each in tell) if line]
        rows = [
            [f"`{each['group']}`", *(f"{each[key]:,}" for key in WIDTHS.values()), share]
            for each, share in ((each, percent(each["final"] / each["size"], 0)) for each in self.groups)
        ]
        return "\n".join([*lines, "", *markdown_table(["channels of", *WIDTHS, "left"], rows)])


@dataclass(frozen=True)
class ExplorationSection:
    """Section "What was explored".

    Args:
        explorations: at least one, in order; where there are several, each is told by itself, and the last is drawn.
    """

    explorations: Sequence[Exploration]
    name: ClassVar[str] = "exploration"

    @classmethod
    def of(cls, cuts: Sequence[CutRecord]) -> Self | None:
        """The cuts at the end of an exploration; what they say beyond this is left out."""
        known = [told for cut in cuts if (told := cut.details.get(cls.name))]
        names = [each.name for each in fields(Exploration)]
        found = [Exploration(**{name: told[name] for name in names if name in told}) for told in known]
        return cls(found) if found else None

    def data(self) -> list[dict[str, Any]]:
        """Numbers of every exploration."""
        return [each.data() for each in self.explorations]

    def markdown(self, picture: str | None) -> str:
        """The text; ``picture`` is its file."""
        parts = ["## What was explored", EXPLORED]
        for number, each in enumerate(self.explorations, 1):
            parts += [f"Exploration {number} of {len(self.explorations)}:"] * (len(self.explorations) > 1)
            parts.append(each.markdown())
        return "\n\n".join(parts + [f"![{PICTURE}]({picture})"] * (picture is not None))

    def figure(self) -> Figure | None:
        """Active channels, group by group, below them the MACs and the channels that came and went, stage by stage.

        A stage's decision lasts until the next one; the network after the last stage, which is final, is drawn for as
        long as the one before. Beside the groups stands how many of their channels are left. MACs are shares of the
        dense network's; the line is what is left in the end.
        """
        exploration = self.explorations[-1]
        if not exploration.sizes:
            return None
        edges, final = _edges(exploration.moments), exploration.stages[-1]["widths"]
        drawn = HeatMap(
            names=list(exploration.sizes),
            edges=edges,
            shares=exploration.shares,
            label="active channels",
            beside=[f"{final[name]:,} of {size:,}" for name, size in exploration.sizes.items()],
            beside_label="channels left",
        )
        figure, (macs, counts) = heat_map_figure(drawn, [2.0, 2.0])
        _draw_macs(macs, exploration, edges)
        _draw_counts(counts, exploration, edges)
        prepare_time(counts, edges, "epochs" if exploration.unit == "epochs" else "optimizer steps")
        return figure


def _channels(found: Exploration) -> str:
    total, first, final = (sum(each[key] for each in found.groups) for key in ("size", "first", "final"))
    went = percent(1 - final / total, 1)
    return (
        f"{_stages(found)}. Of {total:,} channels {first:,} were there at the start and {final:,} are left: {went} "
        f"went{_wanted(found)}."
    )


def _wanted(found: Exploration) -> str:
    if found.sparsity is not None:
        return f", {percent(found.sparsity, 1)} were to go"
    if found.target_macs is None:
        return ""
    return f", as many as it took to be left with at most {amount(found.target_macs)} MACs"


def _stages(found: Exploration) -> str:
    first, last = (_moment(found, at) for at in (found.first_stage, found.last_stage))
    if found.num_stages == 1:
        return f"One stage, {last}"
    return f"{found.num_stages:,} stages, the first {first}, the last {last}"


def _moment(found: Exploration, at: int) -> str:
    return f"at the start of epoch {at}" if found.unit == "epochs" else f"after {at:,} optimizer steps"


def _traffic(found: Exploration) -> str:
    """Sentences on channels that were regrown and pruned; one counts at every stage anew."""
    if not found.num_grown:
        return f"Nothing came back; channels fell dormant {found.num_pruned:,} times."
    text = (
        f"All stages together: {found.num_grown:,} times a channel came back, in {found.num_woken:,} of these from "
        f"dormancy; {found.num_pruned:,} times one fell dormant."
    )
    if found.survival is None:
        return text
    return f"{text} Of those that came back, {percent(found.survival, 1)} were kept at the next stage."


def _network(found: Exploration) -> str:
    first, final = (
        f"{amount(macs)} ({percent(macs / found.dense_macs, 1)} of the dense network's)"
        for macs in (found.first_macs, found.final_macs)
    )
    return f"MACs of the network: {first} at the start, {final} in the end."


def _settings(found: Exploration) -> str:
    """Sentence on execution and regrow init, where they are known."""
    if found.execution is None or found.regrow_init is None:
        return ""
    done, back = (
        f"{EXECUTED[found.execution]} (execution={found.execution})",
        f"channels came back {RETURNED[found.regrow_init]} (regrow_init={found.regrow_init})",
    )
    return f"{done}; {back}."


def _choice(found: Exploration) -> str:
    """Sentence on the groups in which leverage says nothing."""
    if not found.short:
        return ""
    names = ", ".join(f"`{name}`" for name in found.short)
    return (
        f"In {len(found.short)} of {len(found.sizes)} groups there are more filters than weights in each, so that the "
        f"sum of absolute weights decided in place of the column subset, and what came back was drawn (nearly) evenly "
        f"once as many filters stayed as each has weights: {names}."
    )


def _training(found: Exploration) -> str:
    """Sentence on the MACs of training, of all epochs where they are known; else as far as they are."""
    whole, part = found.share_of_training, found.share_to_last_stage
    counted = "counted by the channels that were active, without the stages themselves"
    if found.execution == "mask":
        share = whole if whole is not None else part
        saved = "" if share is None else f" (without the dormant ones it would have been {percent(share, 1)})"
        return f"The training took all MACs of a dense one, since dormant channels were computed, too{saved}."
    if whole is not None:
        return f"The training took {percent(whole, 1)} of the MACs of a dense one, {counted}."
    if part is None:
        return ""
    return (
        f"Up to the last stage the training took {percent(part, 1)} of the MACs of a dense one, {counted}; since then "
        f"every step takes {percent(found.final_macs / found.dense_macs, 1)}."
    )


def _edges(moments: Sequence[int]) -> list[int]:
    """From where to where every column goes, the last one as long as the one before."""
    return [*moments, moments[-1] + (moments[-1] - moments[-2] if len(moments) > 1 else 1)]


def _draw_macs(axes: Axes, exploration: Exploration, edges: Sequence[int]) -> None:
    left = [stage["macs"] / exploration.dense_macs for stage in exploration.stages]
    axes.step(edges, [*left, left[-1]], where="post", color=KEPT, linewidth=1.5, label="active channels")
    final = f"in the end: {100 * left[-1]:.1f} %"
    axes.axhline(left[-1], color="black", linestyle="--", linewidth=1, label=final)
    prepare_macs(axes, "MACs")
    legend_above(axes)


def _draw_counts(axes: Axes, exploration: Exploration, edges: Sequence[int]) -> None:
    """Draw the channels that come back upwards, those that fall dormant downwards."""
    pruned = [-stage["num_pruned"] for stage in exploration.stages]
    grown = [stage["num_grown"] for stage in exploration.stages]
    axes.stairs(grown, edges, fill=True, color=DRAWN, label="come back")
    axes.stairs(exploration.woken, edges, fill=True, color=KEPT, label="of these, dormant before")
    axes.stairs(pruned, edges, fill=True, color=REMOVED, label="fall dormant")
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_ylabel("channels")
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{abs(count):,.0f}"))
    without_frame(axes)
    legend_above(axes)

"""Section "What was forgotten" of the report: rows of compactors, and whether removing them changed anything."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pruning_lit.records.cut import CutRecord
from pruning_lit.reports.heat_map import HeatMap, heat_map_figure, prepare_macs, prepare_time
from pruning_lit.reports.plots import KEPT, REMOVED
from pruning_lit.reports.wording import amount, markdown_table, percent

FORGOTTEN = """\
Behind each of these layers a compactor was trained, a square matrix with one row per channel that changed nothing at
the start. A constant pull shortens all rows, and the task holds on to those that it needs. From time to time the
shortest rows are put on a list, a few more each time until the target is met; these *masked* rows no longer learn from
the task, so that the pull takes them to zero. A row is *dead* when its norm is below the threshold. At the end rows are
removed with their channels, and what is left of every matrix is multiplied into its layer."""
EXACT = """\
Only dead rows were removed, so the conversion is exact, up to rounding and to what so short rows still did: the smaller
network computes what the large one did."""
INEXACT = """\
Masked rows that were still alive were removed with the dead ones (`remove_masked`), so the conversion was not exact;
what it changed is said below."""
PICTURE = "rows that are not masked, and MACs that would be left, in the course of training"
COUNTS = {  # of rows, in the table, by heading
    "rows": "rows",
    "masked": "masked",
    "dead": "dead",
    "masked, alive": "masked_alive",
    "not masked, dead": "unmasked_dead",
    "stay": "kept",
}


@dataclass(frozen=True)
class Compaction:
    """Course and end of the compactors of a network, which are folded into its layers without the dead rows.

    Attributes:
        target_macs: to remain at most.
        dense_macs: of the dense network.
        macs: of the network without compactors.
        threshold: rows with smaller norms are dead.
        history: per update of the list ``steps``, optimizer steps done, ``masked``, rows on the list, ``macs_by_mask``
            and ``macs_by_norm``, MACs left without the masked rows and without the dead ones, and ``rows``, by group
            those that are not masked.
        rows: by group, in the order of the network: ``group``; ``layers`` with compactors; number of ``rows``, of those
            ``masked`` (on the list), ``dead``, ``masked_alive``, ``unmasked_dead``; and ``kept`` in the end.
        below: number of rows with smaller norms than the key, such as ``1e-03``.
        forced: masked rows that were alive were removed, too.
        changed: number of test images with another predicted class after the conversion.
        pictures: of so many; 0: none were looked at.
        error: largest difference of the outputs before and after, over the largest output.
    """

    target_macs: float
    dense_macs: int
    macs: int
    threshold: float
    history: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    below: Mapping[str, int]
    forced: bool
    changed: int
    pictures: int
    error: float

    @property
    def steps(self) -> list[int]:
        """Optimizer steps done at every update of the list, ascending."""
        return list(self.history["steps"])

    @property
    def met_at(self) -> int | None:
        """Optimizer steps done when the rows that are not masked first met the target; None: never."""
        macs = zip(self.steps, self.history["macs_by_mask"], strict=True)
        return next((step for step, left in macs if left <= self.target_macs), None)

    @property
    def shares(self) -> NDArray[np.float64]:
        """Shares of the rows that are not masked, shape ``(groups, updates)``, 0 to 1."""
        left = [self.history["rows"].get(each["group"], []) for each in self.rows]
        totals = np.array([[each["rows"]] for each in self.rows], dtype=np.float64)
        return np.array(left, dtype=np.float64).reshape(len(self.rows), len(self.steps)) / totals

    @property
    def is_exact(self) -> bool:
        """True where only dead rows were removed."""
        return not self.forced or self.total("masked_alive") == 0

    def total(self, kind: str) -> int:
        """Number of rows of a kind in all groups together."""
        return sum(each[kind] for each in self.rows)

    def data(self) -> dict[str, Any]:
        """All but the course, for the report."""
        told = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in ("history", "rows")}
        return told | {"updates": len(self.steps), "met_at": self.met_at, "groups": [dict(row) for row in self.rows]}

    def markdown(self) -> str:
        """Sentences and a table."""
        lines = [each for each in (_rows(self), _norms(self), _target(self), _difference(self)) if each]
        parts = [EXACT if self.is_exact else INEXACT, "\n".join(f"- {line}" for line in lines), _advice(self)]
        return "\n\n".join(part for part in [*parts, rows_table(self.rows)] if part)


@dataclass(frozen=True)
class CompactorSection:
    """Section "What was forgotten".

    Args:
        compactions: at least one, in order; where there are several, each is told by itself, and the last is drawn.
    """

    compactions: Sequence[Compaction]
    name: ClassVar[str] = "compaction"

    @classmethod
    def of(cls, cuts: Sequence[CutRecord]) -> Self | None:
        """The cuts that folded compactors into layers; what they say beyond this is left out."""
        known = [{"macs": cut.macs, **told} for cut in cuts if (told := cut.details.get(cls.name))]
        names = [each.name for each in fields(Compaction)]
        return cls([Compaction(**{name: found[name] for name in names}) for found in known]) if known else None

    def data(self) -> list[dict[str, Any]]:
        """Numbers of every compaction."""
        return [each.data() for each in self.compactions]

    def markdown(self, picture: str | None) -> str:
        """The text; ``picture`` is its file."""
        parts = ["## What was forgotten", FORGOTTEN]
        for number, each in enumerate(self.compactions, 1):
            parts += [f"Compactors {number} of {len(self.compactions)}:"] * (len(self.compactions) > 1)
            parts.append(each.markdown())
        return "\n\n".join(parts + [f"![{PICTURE}]({picture})"] * (picture is not None))

    def figure(self) -> Figure | None:
        """Rows that are not masked, layer by layer, and below them the MACs left, both over the optimizer steps.

        An update of the list lasts until the next one, the last as long as the one before; ahead of the first no row is
        masked. Beside the layers stands how many of their rows stayed in the end. The MACs are those left without
        masked rows and without dead ones, as shares of the dense network's; the line is the target.
        """
        compaction = self.compactions[-1]
        edges, rows = _edges(compaction.steps), compaction.rows
        if not rows:
            return None
        drawn = HeatMap(
            names=[each["group"] for each in rows],
            edges=edges,
            shares=np.hstack([np.ones((len(rows), 1)), compaction.shares]),
            label="rows that are not masked",
            beside=[f"{each['kept']:,} of {each['rows']:,}" for each in rows],
            beside_label="rows kept",
        )
        figure, (macs,) = heat_map_figure(drawn, [2.4])
        _draw_macs(macs, compaction, edges)
        prepare_time(macs, edges, "optimizer steps")
        return figure


def rows_table(groups: Sequence[Mapping[str, Any]]) -> str:
    """The rows of every group, as a Markdown table; layers are named where they are not called as their group."""
    named = any(each["layers"] != [each["group"]] for each in groups)
    rows = [
        [f"`{each['group']}`", *[", ".join(f"`{layer}`" for layer in each["layers"])] * named]
        + [f"{each[key]:,}" for key in COUNTS.values()]
        for each in groups
    ]
    return "\n".join(markdown_table(["channels of", *["compactors behind"] * named, *COUNTS], rows))


def _rows(found: Compaction) -> str:
    rows, masked, kept, alive, unlisted = (
        found.total(key) for key in ("rows", "masked", "kept", "masked_alive", "unmasked_dead")
    )
    fate = (", and removed nevertheless" if found.forced else ", and kept") * bool(alive)
    return (
        f"Of {_number(rows)} {_were(masked)} masked and {rows - kept:,} removed; {_were(alive)} masked but still "
        f"alive{fate}; {_were(unlisted)} dead without being masked. Dead means a norm below {found.threshold:.4g}."
    )


def _norms(found: Compaction) -> str:
    counts = ", ".join(f"{number:,} below {bound}" for bound, number in found.below.items())
    return f"Norms of the rows: {counts}." if counts else ""


def _target(found: Compaction) -> str:
    """Sentence on the target, when the masked rows met it, and the MACs that are left."""
    share = percent(found.target_macs / found.dense_macs, 1)
    text = f"The target was at most {amount(int(found.target_macs))} MACs ({share} of the dense network's); "
    if found.met_at is not None:
        text += f"the list met it after {found.met_at:,} optimizer steps."
    elif found.steps:
        text += f"the list had not met it at the last of its {len(found.steps):,} updates."
    else:
        text += "training ended before the first row was put on the list."
    return f"{text} The pruned network has {amount(found.macs)} ({percent(found.macs / found.dense_macs, 1)})."


def _difference(found: Compaction) -> str:
    """Before and after the conversion, by predicted class and by output."""
    pictures, changed = found.pictures, found.changed
    error = f"The outputs differ by at most {found.error:.0e} of the largest."
    error = error if found.error else "The outputs are the same to the last bit."
    if not pictures:
        return error
    if not changed:
        return (
            f"All {pictures:,} test images have the same predicted class before and after the conversion, so the "
            f"metrics are the same to the last image. {error}"
        )
    why = "" if not found.is_exact else ", since dead rows are not quite zero and numbers are rounded"
    others = "has another predicted class" if changed == 1 else "have other predicted classes"
    return f"{changed:,} of {pictures:,} test images {others} after the conversion than before{why}. {error}"


def _advice(found: Compaction) -> str:
    """Advice where masking fell short of the target, and rows that stay in spite of it."""
    lines = []
    alive, rows, kept, dead = (found.total(key) for key in ("masked_alive", "rows", "kept", "dead"))
    if alive and not found.forced:
        lines.append(
            f"{_number(alive)} could not be removed although masked, since that would have changed what the network "
            "computes: train longer so that they die, or set `remove_masked` to remove them all the same."
        )
    if found.met_at is None:
        lines.append(
            "The list fell short of the target: train longer, or let it grow faster (`granularity`, `interval`)."
        )
    if (stayed := kept - (rows - dead - alive * found.forced)) > 0:
        lines.append(
            f"{_number(stayed)} had to stay, since widths have a floor (`min_channels`) or a multiple (`round_to`)."
        )
    return " ".join(lines)


def _number(rows: int) -> str:
    return f"{rows:,} row{'s' * (rows != 1)}"


def _were(number: int) -> str:
    return f"{number:,} {'was' if number == 1 else 'were'}"


def _edges(steps: Sequence[int]) -> list[int]:
    """From where to where every column goes: one ahead of the first update, then one per update, in steps."""
    known = [0, *steps]
    return [*known, known[-1] + max(1, known[-1] - known[-2] if steps else 1)]


def _draw_macs(axes: Axes, compaction: Compaction, edges: Sequence[int]) -> None:
    dense = compaction.dense_macs
    curves = [("dead", "macs_by_norm", KEPT, 2.5), ("masked", "macs_by_mask", REMOVED, 1.2)]  # thin over thick
    for kind, key, colour, width in curves:
        left = np.array([dense, *compaction.history[key]]) / dense
        axes.step(edges, [*left, left[-1]], where="post", color=colour, linewidth=width, label=f"without {kind} rows")
    share = compaction.target_macs / dense
    axes.axhline(share, color="black", linestyle="--", linewidth=1, label=f"target: {100 * share:.1f} %")
    prepare_macs(axes, "MACs left")
    axes.legend(loc="lower left", frameon=False, fontsize=8)

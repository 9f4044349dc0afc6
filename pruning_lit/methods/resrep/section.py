"""A section of the report: which rows of the compactors were forgotten, and whether removing them changed anything."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pruning_lit.reports.wording import amount, markdown_table, percent

if TYPE_CHECKING:
    from pruning_lit.reports.record import CompactedGroup, CompactedRecord

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
Masked rows that were still alive were removed with the dead ones (`force_masked`), so the conversion was not exact;
what it changed is said below."""
PICTURE = "rows that are not masked, and MACs that would be left, in the course of training"


def forgotten(compacted: Sequence["CompactedRecord"], macs: int, picture: str | None = None) -> str:
    """The section "What was forgotten"; empty where no compactors were trained.

    Args:
        compacted: in order; where there are several, each is told by itself.
        macs: of the pruned network.
        picture: file of the picture of the last one, relative to the text; ``None`` shows none.
    """
    if not compacted:
        return ""
    parts = ["## What was forgotten", FORGOTTEN]
    for number, record in enumerate(compacted, 1):
        parts += [f"Compactors {number} of {len(compacted)}:"] * (len(compacted) > 1)
        left = macs if number == len(compacted) else None
        parts += [_exactness(record), "\n".join(f"- {line}" for line in _totals(record, left)), _advice(record)]
        parts.append(compaction_table(record["groups"]))
    parts += [f"![{PICTURE}]({picture})"] * bool(picture)
    return "\n\n".join(part for part in parts if part)


def compaction_table(groups: Sequence["CompactedGroup"]) -> str:
    """What became of the rows, as a Markdown table; layers are named where they are not called as their group."""
    named = any(each["layers"] != [each["group"]] for each in groups)
    counts = {"rows": "rows", "masked": "masked", "dead": "dead", "masked_alive": "masked, alive"}
    counts |= {"unmasked_dead": "not masked, dead", "kept": "stay"}
    rows = [
        [f"`{each['group']}`", *[", ".join(f"`{layer}`" for layer in each["layers"])] * named]
        + [f"{each[key]:,}" for key in counts]  # type: ignore[literal-required]
        for each in groups
    ]
    return "\n".join(markdown_table(["channels of", *["compactors behind"] * named, *counts.values()], rows))


def _exactness(record: "CompactedRecord") -> str:
    return INEXACT if _dropped_alive(record) else EXACT


def _totals(record: "CompactedRecord", macs: int | None) -> list[str]:
    """Sentences on rows, norms, MACs and test pictures; ``macs`` are those of the network now, where known."""
    return [line for line in (_rows(record), _norms(record), _target(record, macs), _difference(record)) if line]


def _rows(record: "CompactedRecord") -> str:
    rows, masked, kept, alive, unlisted = (
        _sum(record, key) for key in ("rows", "masked", "kept", "masked_alive", "unmasked_dead")
    )
    fate = (", and removed nevertheless" if record["forced"] else ", and kept") * bool(alive)
    return (
        f"Of {_number(rows)} {_were(masked)} masked and {rows - kept:,} removed; {_were(alive)} masked but still "
        f"alive{fate}; {_were(unlisted)} dead without being masked. Dead means a norm below {record['threshold']:.4g}."
    )


def _norms(record: "CompactedRecord") -> str:
    counts = ", ".join(f"{number:,} below {bound}" for bound, number in record["below"].items())
    return f"Norms of the rows: {counts}." if counts else ""


def _target(record: "CompactedRecord", macs: int | None) -> str:
    """What was to be left, when the list had come so far, and what is left now."""
    share = percent(record["target_macs"] / record["dense_macs"], 1)
    text = f"The target was at most {amount(int(record['target_macs']))} MACs ({share} of the dense network's); "
    if record["met_at"] is not None:
        text += f"the list met it after {record['met_at']:,} optimizer steps."
    elif record["updates"]:
        text += f"the list had not met it at the last of its {record['updates']:,} updates."
    else:
        text += "training ended before the first row was put on the list."
    if macs is None:
        return text
    return f"{text} The pruned network has {amount(macs)} ({percent(macs / record['dense_macs'], 1)})."


def _difference(record: "CompactedRecord") -> str:
    """Before and after the conversion, by predicted class and by output."""
    pictures, changed = record["pictures"], record["changed"]
    error = f"The outputs differ by at most {record['error']:.0e} of the largest."
    error = error if record["error"] else "The outputs are the same to the last bit."
    if not pictures:
        return error
    if not changed:
        return (
            f"All {pictures:,} test pictures have the same predicted class before and after the conversion, so the "
            f"accuracy is the same to the last picture. {error}"
        )
    why = "" if _dropped_alive(record) else ", since dead rows are not quite zero and numbers are rounded"
    others = "has another predicted class" if changed == 1 else "have other predicted classes"
    return f"{changed:,} of {pictures:,} test pictures {others} after the conversion than before{why}. {error}"


def _advice(record: "CompactedRecord") -> str:
    """What to do where the list did not take its course, and what had to stay in spite of it."""
    lines = []
    alive, rows, kept, dead = (_sum(record, key) for key in ("masked_alive", "rows", "kept", "dead"))
    if alive and not record["forced"]:
        lines.append(
            f"{_number(alive)} could not be removed although masked, since that would have changed what the network "
            "computes: train longer so that they die, or set `force_masked` to remove them all the same."
        )
    if record["met_at"] is None:
        lines.append(
            "The list fell short of the target: train longer, or let it grow faster (`granularity`, `interval`)."
        )
    if (stayed := kept - (rows - dead - alive * record["forced"])) > 0:
        lines.append(
            f"{_number(stayed)} had to stay, since widths have a floor (`min_channels`) or a multiple (`round_to`)."
        )
    return " ".join(lines)


def _dropped_alive(record: "CompactedRecord") -> bool:
    return record["forced"] and _sum(record, "masked_alive") > 0


def _sum(record: "CompactedRecord", key: str) -> int:
    return sum(each[key] for each in record["groups"])  # type: ignore[literal-required]


def _number(rows: int) -> str:
    return f"{rows:,} row{'s' * (rows != 1)}"


def _were(number: int) -> str:
    return f"{number:,} {'was' if number == 1 else 'were'}"

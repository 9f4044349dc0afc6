"""A section of the report: what a network tried out on the way to its widths, and what its training took."""

from collections.abc import Sequence
from typing import TypedDict

from pruning_lit.reports.wording import amount, markdown_table, percent

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


class ExploredGroup(TypedDict):
    """The channels of a group of ``size``: at the ``first``, at most, at least, and in the end."""

    group: str
    size: int
    first: int
    widest: int
    narrowest: int
    final: int


class ExploredRecord(TypedDict):
    """How the channels of a network were explored.

    At so many ``stages``, from ``first_stage`` to ``last_stage`` in ``unit``s (``epochs``, ``steps``), channels came
    back ``grown`` times, in ``woken`` of these from dormancy, and fell dormant ``pruned`` times; the share ``survived``
    of those that came back was kept for its own sake at the stage after (None: nothing came back). The share
    ``sparsity`` of the channels was to go, or so many MACs that ``target_macs`` are left at most (None: the other). The
    network began with ``first_macs`` and ended with ``final_macs`` of
    ``dense_macs``. Its forward passes, counted by active channels, took ``share_to_last_stage`` of the dense network's
    until the last stage, and ``share_of_training`` in all; None: not known. ``execution`` and ``regrow_init`` are the
    settings of these names; None: not known.
    """

    unit: str
    execution: str | None
    regrow_init: str | None
    sparsity: float | None
    target_macs: int | None
    dense_macs: int
    stages: int
    first_stage: int
    last_stage: int
    first_macs: int
    final_macs: int
    grown: int
    woken: int
    pruned: int
    survived: float | None
    groups: list[ExploredGroup]
    share_to_last_stage: float | None
    share_of_training: float | None


def explored(records: Sequence[ExploredRecord], picture: str | None = None) -> str:
    """The section "What was explored"; empty where nothing was.

    Args:
        records: in order; where there are several, each is told by itself.
        picture: file of the picture of the last one, relative to the text; ``None`` shows none.
    """
    if not records:
        return ""
    parts = ["## What was explored", EXPLORED]
    for number, record in enumerate(records, 1):
        parts += [f"Exploration {number} of {len(records)}:"] * (len(records) > 1)
        parts.append("\n".join(f"- {line}" for line in _totals(record)))
        parts.append(exploration_table(record["groups"]))
    parts += [f"![{PICTURE}]({picture})"] * bool(picture)
    return "\n\n".join(parts)


def exploration_table(groups: Sequence[ExploredGroup]) -> str:
    """The widths of every group, as a Markdown table."""
    widths = {"size": "in all", "first": "at the start", "widest": "widest", "narrowest": "narrowest"}
    widths |= {"final": "in the end"}
    rows = [
        [
            f"`{each['group']}`",
            *(f"{each[key]:,}" for key in widths),  # type: ignore[literal-required]
            percent(each["final"] / each["size"], 0),
        ]
        for each in groups
    ]
    return "\n".join(markdown_table(["channels of", *widths.values(), "left"], rows))


def _totals(record: ExploredRecord) -> list[str]:
    """Sentences on stages, channels, MACs of the network, and MACs of its training."""
    tell = (_channels, _settings, _traffic, _network, _training)
    return [line for line in (each(record) for each in tell) if line]


def _channels(record: ExploredRecord) -> str:
    total, first, final = (sum(each[key] for each in record["groups"]) for key in ("size", "first", "final"))
    went = percent(1 - final / total, 1)
    return (
        f"{_stages(record)}. Of {total:,} channels {first:,} were there at the start and {final:,} are left: {went} "
        f"went{_wanted(record)}."
    )


def _wanted(record: ExploredRecord) -> str:
    if record["sparsity"] is not None:
        return f", {percent(record['sparsity'], 1)} were to go"
    if record["target_macs"] is None:
        return ""
    return f", as many as it took to be left with at most {amount(record['target_macs'])} MACs"


def _stages(record: ExploredRecord) -> str:
    first, last = (_moment(record, key) for key in ("first_stage", "last_stage"))
    if record["stages"] == 1:
        return f"One stage, {last}"
    return f"{record['stages']:,} stages, the first {first}, the last {last}"


def _moment(record: ExploredRecord, key: str) -> str:
    at = record[key]  # type: ignore[literal-required]
    return f"at the start of epoch {at}" if record["unit"] == "epochs" else f"after {at:,} optimizer steps"


def _traffic(record: ExploredRecord) -> str:
    """Who came and went; a channel counts at every stage anew."""
    if not record["grown"]:
        return f"Nothing came back; channels fell dormant {record['pruned']:,} times."
    text = (
        f"All stages together: {record['grown']:,} times a channel came back, in {record['woken']:,} of these from "
        f"dormancy; {record['pruned']:,} times one fell dormant."
    )
    if record["survived"] is None:
        return text
    return f"{text} Of those that came back, {percent(record['survived'], 1)} were kept at the next stage."


def _network(record: ExploredRecord) -> str:
    first, final = (
        f"{amount(macs)} ({percent(macs / record['dense_macs'], 1)} of the dense network's)"
        for macs in (record["first_macs"], record["final_macs"])
    )
    return f"MACs of the network: {first} at the start, {final} in the end."


def _settings(record: ExploredRecord) -> str:
    """How it was done, where that is known."""
    if record["execution"] is None or record["regrow_init"] is None:
        return ""
    done, back = (
        f"{EXECUTED[record['execution']]} (execution={record['execution']})",
        f"channels came back {RETURNED[record['regrow_init']]} (regrow_init={record['regrow_init']})",
    )
    return f"{done}; {back}."


def _training(record: ExploredRecord) -> str:
    """What was computed, where it is known for all epochs; else as far as it is."""
    whole, part = record["share_of_training"], record["share_to_last_stage"]
    counted = "counted by the channels that were active, without the stages themselves"
    if record["execution"] == "mask":
        share = whole if whole is not None else part
        saved = "" if share is None else f" (without the dormant ones it would have been {percent(share, 1)})"
        return f"The training took all MACs of a dense one, since dormant channels were computed, too{saved}."
    if whole is not None:
        return f"The training took {percent(whole, 1)} of the MACs of a dense one, {counted}."
    if part is None:
        return ""
    return (
        f"Up to the last stage the training took {percent(part, 1)} of the MACs of a dense one, {counted}; since then "
        f"every step takes {percent(record['final_macs'] / record['dense_macs'], 1)}."
    )

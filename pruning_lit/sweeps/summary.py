"""The tables of a sweep: ``summary.md``, and what is printed of it."""

from collections.abc import Callable, Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from pruning_lit.records.primary import Primary
from pruning_lit.reports.wording import NOISY, UNKNOWN, amount, markdown_table
from pruning_lit.sweeps.jobs import FINISHED, Row
from pruning_lit.sweeps.labels import Label, by_place, labels
from pruning_lit.sweeps.spread import Combination, Spread, apart, dense_spread

EXPLANATION = """\
Mean ± sample standard deviation over the seeds. *Dense* and *pruned* are the metric that is named with the dense
network; *change* is pruned minus dense, taken seed by seed. Removed shares are of the dense network; latencies were
measured in each job on its own machine, dense and pruned network in turns, and their ratio is taken job by job; it is
too noisy to tell where the quartiles of the two overlap, or are far apart, in one of the jobs."""

COUNTS = ("macs", "params")
Shown = tuple[Label, Combination]
Column = Callable[[Label, Combination], str]


def _percent(name: str) -> Column:
    return lambda _, combination: _in_percent(combination.spread(name))


def _metric(name: str) -> Column:
    return lambda _, combination: _value(combination.spread(name), combination.primary)


def _quantity(name: str) -> Column:
    return lambda _, combination: _amount(combination.spread(name), counted=name in COUNTS)


NAMES: dict[str, Column] = {
    "method": lambda label, _: label.method,
    "sparsity": lambda label, _: label.sparsity,
    "settings": lambda label, _: label.settings or UNKNOWN,  # left out where there are none
}
GAINS: dict[str, Column] = {  # {%} and {points}: units of the metric
    "seeds": lambda _, combination: f"{len(set(combination.seeds))} ({', '.join(map(str, combination.seeds))})",
    "dense{%}": _metric("primary_before"),
    "pruned{%}": _metric("primary"),
    "change{points}": _metric("primary_change"),
    "MACs removed, %": _percent("macs_reduction"),
    "parameters removed, %": _percent("params_reduction"),
    "latency removed, %": lambda _, combination: (
        NOISY if combination.noisy else _in_percent(combination.spread("latency_reduction"))
    ),
}
SIZES: dict[str, Column] = {
    "MACs": _quantity("macs"),
    "parameters": _quantity("params"),
    "latency, ms (smallest batch)": _quantity("latency_ms"),
    "dense latency, ms (smallest batch)": _quantity("latency_ms_before"),
    "{items}/s (largest batch)": _quantity("throughput"),
    "dense {items}/s (largest batch)": _quantity("throughput_before"),
}
ON_CONSOLE = ("pruned{%}", "change{points}", "MACs removed, %")


def markdown(rows: Sequence[Row], combinations: Sequence[Combination], pictures: Mapping[str, str]) -> str:
    """The text of ``summary.md``.

    Args:
        rows: all jobs.
        combinations: the finished ones, brought together.
        pictures: what they show, by file; relative to the text.
    """
    finished = sum(row["status"] == FINISHED for row in rows)
    sections = [f"# Summary of {len(rows)} job{'s' * (len(rows) != 1)}, {finished} of them finished"]
    if combinations:
        sections.append(EXPLANATION)
    sections += [f"![{shown}]({file})" for file, shown in pictures.items()]
    for place, members in by_place(combinations).items():
        sections += [f"## {place}", _dense(members), _table(members, GAINS), _table(members, SIZES)]
    if missed := budgets_missed(rows):
        sections += ["## Budgets that were not met", "\n".join(f"- `{job}`{told}" for job, told in missed.items())]
    if finished < len(rows):
        missing = [f"- `{job}`{told}" for job, told in without_figures(rows).items()]
        sections += ["## Jobs without figures", "\n".join(missing)]
    return "\n\n".join(sections) + "\n"


def console_tables(combinations: Sequence[Combination]) -> list[Table]:
    """One rich table per network and data set: mean ± sample standard deviation, the columns that fit a console."""
    tables = []
    for place, members in by_place(combinations).items():
        columns = _named(members, {each: GAINS[each] for each in ON_CONSOLE})
        table = Table(title=place, title_justify="left", box=SIMPLE_HEAD)
        for heading in columns:
            table.add_column(heading, justify="left" if heading in NAMES else "right", no_wrap=heading != "settings")
        for shown in members:
            table.add_row(*(tell(*shown) for tell in columns.values()))
        tables.append(table)
    return tables


def without_figures(rows: Sequence[Row]) -> dict[str, str]:
    """Every job that failed or has not finished: its seed, what was asked for, how it ended, and why."""
    return {name: told for name, (status, told) in _endings(rows).items() if status != FINISHED}


def budgets_missed(rows: Sequence[Row]) -> dict[str, str]:
    """Every finished job that has missed its budget: its seed, what was asked for, and why."""
    missed = [row for row in rows if row["status"] == FINISHED and row["error"]]
    return {name: told for name, (_, told) in _endings(missed).items()}


def _endings(rows: Sequence[Row]) -> dict[str, tuple[str, str]]:
    """By job: its status, and what is told of it."""
    told = {}
    for job in apart(rows):
        (row,), (label,) = job.rows, labels([job])
        seed = f" (seed {row['seed']})" if row["seed"] is not None else ""
        asked = str(label) if row["method"] else None  # Hydra had not yet written it down
        ended = row["status"] if row["status"] != FINISHED else None
        told[row["job"]] = row["status"], f"{seed}: " + ": ".join(filter(None, (asked, ended, row["error"])))
    return told


def _amount(spread: Spread | None, counted: bool) -> str:
    """A count or a measurement, and its deviation, where it has one, with as many decimals."""
    if spread is None:
        return UNKNOWN
    whole = counted and spread.mean.is_integer() and not spread.deviation
    text = amount(int(spread.mean) if whole else spread.mean)
    return f"{text} ± {spread.deviation:,.{len(text.partition('.')[2])}f}" if spread.deviation else text


def _dense(members: Sequence[Shown]) -> str:
    """The dense network in one sentence."""
    combinations = [combination for _, combination in members]
    metric, macs, params, latency = (
        dense_spread(combinations, f"{each}_before") for each in ("primary", *COUNTS, "latency_ms")
    )
    primary = combinations[0].primary
    unit = " %" if primary.percent else ""
    facts = [f"{primary.title} {_value(metric, primary)}{unit}"] if metric else []
    facts += [f"{_amount(macs, counted=True)} MACs", f"{_amount(params, counted=True)} parameters"]
    facts += [f"latency {_amount(latency, counted=False)} ms"] if latency else []
    return f"The dense network: {', '.join(facts)}."


def _table(members: Sequence[Shown], columns: Mapping[str, Column]) -> str:
    columns = _named(members, columns)
    return "\n".join(markdown_table(list(columns), [[tell(*shown) for tell in columns.values()] for shown in members]))


def _named(members: Sequence[Shown], columns: Mapping[str, Column]) -> dict[str, Column]:
    """The columns behind those that name a combination."""
    percent = members[0][1].primary.percent
    units = {"{%}": ", %", "{points}": ", points"} if percent else {"{%}": "", "{points}": ""}
    units["{items}"] = members[0][1].rows[0]["items"]
    named = dict(NAMES)
    for heading, column in columns.items():
        for mark, unit in units.items():
            heading = heading.replace(mark, unit)
        named[heading] = column
    if not any(label.settings for label, _ in members):
        del named["settings"]
    return named


def _value(spread: Spread | None, primary: Primary) -> str:
    """A metric in its unit, which stands in the heading."""
    if primary.percent or spread is None:
        return _in_percent(spread)
    return f"{spread.mean:.4g}" + ("" if spread.deviation is None else f" ± {spread.deviation:.2g}")


def _in_percent(spread: Spread | None) -> str:
    if spread is None:
        return UNKNOWN
    deviation = "" if spread.deviation is None else f" ± {100 * spread.deviation:.2f}"
    return f"{100 * spread.mean:.2f}{deviation}"

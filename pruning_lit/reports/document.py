"""A report for people: ``report.md``, the same as a page, and the table printed at the end of a run."""

from collections.abc import Container, Sequence
from pathlib import Path

from rich.table import Table

from pruning_lit.records.latency import Latency
from pruning_lit.reports.record import JSON_NAME, Report
from pruning_lit.reports.section import Section
from pruning_lit.reports.wording import (
    NOISY,
    UNKNOWN,
    amount,
    change,
    latency_change,
    markdown_table,
    metric,
    metric_change,
    percent,
    with_quartiles,
)
from pruning_lit.system.atomic import write_text

MARKDOWN_NAME, PAGE_NAME = "report.md", "report.html"
WIDTHS_NAME, CURVES_NAME = "widths.png", "curves.png"
ARTEFACT = "pruned/model.safetensors"
MEANINGS = """\
- **{title}**: {meaning}, on the test part; {direction} is better; *after* is the network as the last epoch left it.
- **parameters**: numbers the network has learned; they decide the size of its file and of its memory.
- **MACs**: multiply-accumulates of all convolutions and linear layers for one {item}; the arithmetic to be done.
- **latency**: median wall time of one forward pass of a batch in eval mode, dense and pruned network in turns, after
  passes that warm up; between the quartiles in parentheses lie the middle half of the passes. 1.50× means that the
  pruned network is 1.5 times as fast; where quartiles overlap or are far apart, it is too noisy
  to tell.
- **throughput**: {item}s per second at that median."""


def write_report(report: Report, folder: str | Path, sections: Sequence[Section] = ()) -> None:
    """Write ``report.json``, ``report.md`` and ``report.html`` into ``folder``; pictures that are there are shown."""
    from pruning_lit.reports.page import page  # late: every command loads this module, and few of them write pages

    folder = Path(folder)
    text = markdown(report, sections, {path.name for path in folder.glob("*.png")})
    write_text(folder / MARKDOWN_NAME, text)
    write_text(folder / PAGE_NAME, page(text, folder))
    write_text(folder / JSON_NAME, report.to_json())  # last: a report.json says that the run is complete


def markdown(report: Report, sections: Sequence[Section] = (), pictures: Container[str] = ()) -> str:
    """The text of ``report.md``.

    Args:
        report: what to tell.
        sections: those of methods and criteria, in order.
        pictures: files that may be shown, relative to the text; sections look for ``<name>.png``.
    """
    primary, direction = report.primary, "higher" if report.primary.higher_is_better else "lower"
    meaning, item = primary.meaning or "of the task", report.items.removesuffix("s")
    meanings = MEANINGS.format(title=primary.title, meaning=meaning, direction=direction, item=item)
    shown = {name: file if (file := f"{name}.png") in pictures else None for name in (each.name for each in sections)}
    parts = [
        f"# {report.experiment}: pruning report",
        _verdict(report),
        *[f"> **Warning.** {each}" for each in report.missed],
        *[f"> **Note.** {note}" for note in report.notes],
        "\n".join(markdown_table(["", "before", "after", "change"], comparison(report))),
        _along_the_way(report),
        "## What the numbers mean\n\n" + meanings,
        "## Use the pruned network\n\n" + _use(report),
        _widths(report, WIDTHS_NAME in pictures),
        *[section.markdown(shown[section.name]) for section in sections],
        _protected(report),
        f"## Training\n\n![loss and {primary.title} over the epochs]({CURVES_NAME})" * (CURVES_NAME in pictures),
        _origin(report),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def console_table(report: Report) -> Table:
    """The comparison before and after as a rich table for the end of a run."""
    table = Table("", title=f"{report.experiment} (seed {report.seed})", title_justify="left")
    for heading in ("before", "after", "change"):
        table.add_column(heading, justify="right")
    for row in comparison(report):
        table.add_row(*row)
    if (after_cut := report.value(report.metrics_after_cut)) is not None:
        table.caption = f"right after the cut, before any further training: {report.primary.format(after_cut)}"
        if (renewed := report.value(report.metrics_recalibrated)) is not None:
            table.caption += f";\nwith renewed norm statistics: {report.primary.format(renewed)}"
    if report.latency:
        table.caption = "\n".join(filter(None, [str(table.caption or ""), f"latency: {_measured(report)}"]))
    return table


def _verdict(report: Report) -> str:
    gone = report.reduction
    text = f"The network lost {percent(gone['macs'], 1)} of its MACs and {percent(gone['params'], 1)} of its parameters"
    primary, before, after = report.primary, report.value(report.before.metrics), report.value(report.after.metrics)
    if before is None or after is None:
        return text + "."
    told = metric_change(primary, before, after)
    return f"{text}; its {primary.title} went from {primary.format(before)} to {primary.format(after)} ({told})."


def comparison(report: Report) -> list[list[str]]:
    """Rows of the table that all reports begin with: a figure, before, after, and the change."""
    before, after = report.before, report.after
    primary, old, new = report.primary, report.value(before.metrics), report.value(after.metrics)
    rows = [[primary.title, metric(primary, old), metric(primary, new), metric_change(primary, old, new)]]
    for label, old, new in [
        ("parameters", before.params, after.params),
        ("MACs", before.macs, after.macs),
    ]:
        rows.append([label, amount(old), amount(new), change(old, new)])
    rows += [_latency(each) for each in report.latency]
    if report.latency:
        largest = max(report.latency, key=lambda each: each.batch_size)
        speeds = [largest.throughput(each) for each in (largest.before, largest.after)]
        label = f"throughput,\nbatch of {largest.batch_size}"
        told = NOISY if largest.speedup is None else change(*speeds)
        rows.append([label, *(amount(each, f"{report.items}/s") for each in speeds), told])
    return rows


def _latency(latency: Latency) -> list[str]:
    """Median and quartiles before and after, and the ratio of the medians where it can be told."""
    before, after = latency.before, latency.after
    faster = latency_change(before, after, latency.repeats)
    return [f"latency,\nbatch of {latency.batch_size}", with_quartiles(before), with_quartiles(after), faster]


def _measured(report: Report) -> str:
    """Number of passes and machine; slow networks make fewer passes of large batches."""
    last = report.latency[-1]
    passes = " and ".join(dict.fromkeys(str(each.repeats) for each in report.latency))
    threads = f"{last.threads} PyTorch thread{'s' * (last.threads != 1)}"
    plural = "es" * (passes != "1")
    return f"median (quartiles) of {passes} pass{plural} of each network, in turns, on {last.device} with {threads}"


def _use(report: Report) -> str:
    """Code that loads the network; one that a file is not trusted to name has to be built by the reader."""
    module = report.own_network.partition("(")[0].rpartition(".")[0]
    lines = [f"import {module}"] if module else []
    lines += ["from pruning_lit.channels import load", ""]
    arguments = ", ".join(filter(None, [f'"{ARTEFACT}"', report.own_network]))
    lines += [f"net = load({arguments})  # a plain torch.nn.Module; the path is relative to the folder of this report"]
    return "\n".join(["```python", *lines, "```"])


def _along_the_way(report: Report) -> str:
    lines = []
    primary = report.primary
    if (after_cut := report.value(report.metrics_after_cut)) is not None:
        renewed = report.value(report.metrics_recalibrated)
        told = "" if renewed is None else f"; with the statistics of its batch norms renewed: {primary.format(renewed)}"
        lines.append(f"- Right after the last cut, before any further training: {primary.format(after_cut)}{told}.")
    if report.cut_error is not None:
        lines.append(
            f"- Right after the cut the narrowed network computed what the masked one did, to within "
            f"{report.cut_error:.0e} of the largest output."
        )
    if best := report.best:
        known = best["validation"] is not None
        how = f", chosen by validation {primary.title}"
        validation = f"validation {metric(primary, best['validation'])}, "
        lines.append(
            f"- Best epoch at the final width{how * known}: epoch {best['epoch'] + 1}, "
            f"{validation * known}test {metric(primary, report.value(best['metrics']))} (`{best['path']}`)."
        )
    return f"On the way ({primary.title}):\n\n" + "\n".join(lines) if lines else ""


def _widths(report: Report, pictured: bool) -> str:
    if not report.groups:
        return ""
    rows = [
        [f"`{group.name}`", str(group.size), str(group.kept), percent(group.kept / group.size, 0)]
        for group in report.groups
    ]
    image = f"![channels per layer, before and after]({WIDTHS_NAME})\n\n" * pictured
    table = markdown_table(["channels made by", "before", "after", "kept"], rows)
    return f"## Channels per layer\n\n{image}" + "\n".join(table)


def _protected(report: Report) -> str:
    names: dict[str, list[str]] = {}
    for group in report.groups:
        if group.protected is not None:
            names.setdefault(group.protected, []).append(f"`{group.name}`")
    if not names:
        return ""
    lines = [f"- {', '.join(layers)}: {reason}" for reason, layers in names.items()]
    return "## What was protected, and why\n\n" + "\n".join(lines)


def _origin(report: Report) -> str:
    facts = {
        "choices": ", ".join(f"{group}={choice}" for group, choice in report.choices.items()),
        "seed": str(report.seed),
        "hardware": report.hardware,
        "latency": _measured(report) if report.latency else UNKNOWN,
        "versions": ", ".join(f"{library} {version}" for library, version in report.versions.items()),
        "commit": ", ".join(f"{name} {commit}" for name, commit in report.commits.items()),
        "date": report.date,
    }
    if report.config:
        facts["configuration"] = "all of it, resolved, under `config` in report.json"
    lines = [f"- {name}: {value or UNKNOWN}" for name, value in facts.items()]
    command = f"```\n{report.command}\n```\n\n" if report.command else ""
    return f"## How this was made\n\n{command}" + "\n".join(lines) + _phases(report)


def _phases(report: Report) -> str:
    rows, primary = [], report.primary
    for phase in report.phases:
        after_cut, last = (report.value(each) for each in (phase.get("metrics_after_cut"), phase.get("metrics")))
        origin = phase.get("taken_over_from")
        name = f"{phase['name']} (taken over from {origin})" if origin else phase["name"]
        pictures = phase.get("pictures_per_step") or UNKNOWN
        figures = (f"{phase['seconds']:.1f}", metric(primary, after_cut), metric(primary, last))
        rows.append([name, str(phase["epochs"]), pictures, *figures])
    headings = ["phase", "epochs", f"{report.items} per step", "seconds", f"{primary.title} after a cut", primary.title]
    return "\n\n" + "\n".join(markdown_table(headings, rows)) if rows else ""

"""``python -m pruning_lit.report path=…``: the summary of a sweep, or of any runs, at any time.

    path=  folder of a sweep, or any folder with runs in it, at any depth; several: path=outputs/a,outputs/b
    out=   where summary.md, summary.csv, pareto.png and widths.png go; by default the folder itself, and of several,
           or of a single run, a new one: outputs/report/<date>_<time>

Jobs that differ in nothing but their seed are brought together: mean and sample standard deviation; differences from
the dense network are taken job by job. A sweep that still runs is summarised as far as it has come.
"""

import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser

from pruning_lit.command_line.errors import ending_in_a_sentence
from pruning_lit.reports.record import JSON_NAME
from pruning_lit.sweeps.jobs import collect
from pruning_lit.sweeps.sweep import print_rows, write_rows

OPTIONS = ("path", "out")


def report(folders: Sequence[Path], out: Path | None) -> Path:
    """Write and print the summary of the runs in ``folders``.

    Args:
        folders: of sweeps, or any with runs in them.
        out: where it goes; by default the one folder, unless it is that of a run, else a new one.

    Returns:
        The path of ``summary.md``.

    Raises:
        FileNotFoundError: one of the folders does not exist.
        ValueError: there are no runs in one of them, or ``out`` is the folder of a run.
    """
    rows = collect(folders)
    path = write_rows(rows, out or _default(folders))
    print_rows(rows, path)
    return path


def _default(folders: Sequence[Path]) -> Path:
    if len(folders) == 1 and not (folders[0] / JSON_NAME).is_file():  # a run keeps its own pictures
        return folders[0]
    return Path("outputs") / "report" / f"{datetime.now():%Y-%m-%d_%H-%M-%S}"


def _arguments(words: Sequence[str]) -> tuple[list[Path], Path | None]:
    """The command line, in Hydra's syntax: folders, and where the summary goes."""
    given: dict[str, list[str]] = {}
    for override in OverridesParser.create().parse_overrides(list(words)):
        key = override.key_or_group
        if key not in OPTIONS:
            raise ValueError(f"there is no option {key!r}; there are {', '.join(OPTIONS)}")
        several = list(override.sweep_iterator()) if override.is_sweep_override() else override.value()
        given[key] = [str(each) for each in (several if isinstance(several, list) else [several]) if each]
    folders, out = given.get("path", []), given.get("out", [])
    if not folders:
        raise ValueError("the folder of a sweep, or one with runs in it, has to be given: path=…")
    if len(out) > 1:
        raise ValueError(f"out takes one folder, got {', '.join(out)}")
    if out and Path(out[0]).is_file():
        raise ValueError(f"out={out[0]} is a file; the summary needs a folder")
    return [Path(each) for each in folders], Path(out[0]) if out else None


def main() -> None:
    """Entry point of the command line: what a user can mend ends in one sentence and exit code 1."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(__doc__)
        return
    with ending_in_a_sentence():
        report(*_arguments(sys.argv[1:]))


if __name__ == "__main__":
    main()

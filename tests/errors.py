"""``python -m tests.errors``: run every bad input of ``tests/bad_inputs.py`` as a command, and write the table of them.

    python -m tests.errors                 all of them, one at a time, as a run's folder belongs to one command
    python -m tests.errors chex 'a seed'   those of whose heading, words or command that is a part; the others stay

A command that ends in a traceback, in exit code 0, without a sentence or after more than 20 seconds is listed, and the
script ends with exit code 1.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import NamedTuple

from tests.bad_inputs import CASES, BadInput, make_files, row, sentences
from tests.places import ROOT

TABLE = ROOT / "tests" / "errors.md"
MOST_SECONDS = 20.0
HEADING = """# What the commands refuse

Each of these commands was run as a process of its own, in a folder with the files that they name
([tests/bad_inputs.py](bad_inputs.py) makes them). All were refused before any training, in one sentence (a
sweep: one for each job) and with an exit code other than 0. `python -m tests.errors` writes this table;
`tests/test_errors_table.py` keeps it true.
"""
COLUMNS = "| what is wrong | command | sentence | exit code |\n|---|---|---|---|"


class Ending(NamedTuple):
    """How a command has ended, and what is to be said against that."""

    line: str
    complaint: str


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """``python -m <words>`` in ``folder``."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore", "COLUMNS": "120"}
    return subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def refuse(case: BadInput, folder: Path) -> Ending:
    """Run a case; the line of the table, and what is wrong with how it ended."""
    begun = perf_counter()
    done = run(folder, *case.words)
    seconds, printed = perf_counter() - begun, done.stdout + done.stderr
    told = sentences(printed, folder)
    complaints = {
        "a traceback": "Traceback (most recent call last)" in printed,
        "exit code 0": done.returncode == 0,
        f"{len(told)} sentences": len(told) != case.jobs,
        f"{seconds:.0f} seconds": seconds > MOST_SECONDS,
    }
    complaint = ", ".join(text for text, holds in complaints.items() if holds)
    return Ending(row(case, told, done.returncode), complaint)


def write(lines: dict[str, str]) -> None:
    """Write the table; by what is wrong, its line."""
    rooms: dict[str, list[str]] = {}
    for case in CASES:
        rooms.setdefault(case.room, []).append(lines[case.wrong])
    parts = [f"## {room}\n\n{COLUMNS}\n" + "\n".join(rows) for room, rows in rooms.items()]
    TABLE.write_text(f"{HEADING}\n" + "\n\n".join(parts) + "\n")


def main(wanted: Sequence[str]) -> None:
    """Run the cases, and write the table."""
    chosen = [case for case in CASES if not wanted or any(each in " ".join(case) for each in wanted)]
    known = {line.split(" | ")[0].removeprefix("| "): line for line in _lines()}
    with TemporaryDirectory() as name:
        folder = Path(name).resolve()
        make_files(folder, lambda *words: run(folder, *words).returncode)
        endings = {case: refuse(case, folder) for case in chosen}
    complaints = [f"{ending.complaint}: {case.command}" for case, ending in endings.items() if ending.complaint]
    lines = {case.wrong: known.get(case.wrong, row(case, [], 0)) for case in CASES}
    write(lines | {case.wrong: ending.line for case, ending in endings.items()})
    print("\n".join(complaints) or f"{len(chosen)} commands, all refused in a sentence: {TABLE.relative_to(ROOT)}")
    sys.exit(bool(complaints))


def _lines() -> list[str]:
    return TABLE.read_text().splitlines() if TABLE.is_file() else []


if __name__ == "__main__":
    main(sys.argv[1:])

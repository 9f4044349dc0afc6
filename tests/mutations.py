"""``python -m tests.mutations``: make the deliberate breaks of ``tests/breaks.py`` one by one, and see each caught.

    python -m tests.mutations                all of them
    python -m tests.mutations sparsity rank  those in whose bug, file or tests one of these words is
    python -m tests.mutations --jobs 2       two at a time
    python -m tests.mutations --check        none: only see that the list is true

The tests named for a break run in a copy of the tracked files, the slow ones left out as by ``make test``: those of all
breaks together at first, without any, when they have to pass, then those of each with it, when one has to fail. A table
tells which breaks are caught; exit code 1 where one is not, or is not true any more.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import cache_from_source
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory

from tests.breaks import BREAKS, Break
from tests.places import ROOT

CAUGHT, MISSED, STALE = "caught", "NOT CAUGHT", "stale"
NOT_SLOW = ("-m", "not slow", "-q", "-x", "-p", "no:cacheprovider")


def main(words: Sequence[str]) -> None:
    """Entry point of the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description="See deliberate breaks caught.")
    parser.add_argument("words", nargs="*", help="parts of the bugs, files or tests of those that are wanted")
    parser.add_argument("--jobs", type=int, default=1, help="how many at a time")
    parser.add_argument("--check", action="store_true", help="only see that the list is true")
    options = parser.parse_args(words)
    wanted = [each for each in BREAKS if not options.words or any(w in f"{each} {each.tests}" for w in options.words)]
    if not wanted:
        parser.error(f"no break has to do with {' or '.join(options.words)}")
    true = [each for each in wanted if not _tell(each, STALE, why_stale(each))]
    caught = len(true) if options.check else _see(true, options.jobs)
    print(f"{caught} of {len(wanted)} breaks {'can be made' if options.check else 'caught'}")
    sys.exit(caught < len(wanted))


def why_stale(each: Break) -> str:
    """Why a break cannot be made any more, in words; empty where it can."""
    code, tests = ROOT / "pruning_lit" / each.file, ROOT / "tests" / each.tests
    if missing := [str(file.relative_to(ROOT)) for file in (code, tests) if not file.is_file()]:
        return f"there is no {missing[0]}"
    text = code.read_text(encoding="utf-8")
    if (count := text.count(each.old)) != 1:
        return f"{each.old!r} is there {count} times"
    if not re.search(rf"^ *def test_\w*{each.word}", tests.read_text(encoding="utf-8"), re.MULTILINE):
        return f"no test in tests/{each.tests} is called …{each.word}…"
    compile(text.replace(each.old, each.new), each.file, "exec")
    return ""


def _see(breaks: Sequence[Break], jobs: int) -> int:
    """Make the breaks in so many copies, and tell of each; the number of those that are caught."""
    copies: SimpleQueue[Path] = SimpleQueue()

    def is_caught(each: Break) -> bool:
        folder = copies.get()
        try:
            verdict, told = look(each, folder)
        finally:
            copies.put(folder)
        return _tell(each, verdict, told) and verdict == CAUGHT

    if not breaks:
        return 0
    with TemporaryDirectory() as name:
        for number in range(jobs):
            copies.put(copy_tracked(Path(name) / str(number)))
        _require_green(Path(name) / "0", breaks)
        with ThreadPoolExecutor(jobs) as pool:
            return sum(pool.map(is_caught, breaks))


def copy_tracked(folder: Path) -> Path:
    """Copy all tracked files, as they are now, into ``folder``."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():  # a tracked file may have been removed
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def look(each: Break, folder: Path) -> tuple[str, str]:
    """Make a break in a copy, run its tests, and mend it; the verdict, and the test that failed or how all ended."""
    file = folder / "pruning_lit" / each.file
    text = file.read_text(encoding="utf-8")
    try:
        _write(file, text.replace(each.old, each.new))
        done = _run_tests(folder, [f"tests/{each.tests}"], each.word)
    finally:
        _write(file, text)
    failed = re.search(r"^FAILED tests/(\S+)", done.stdout, re.MULTILINE)
    if done.returncode == 1 and failed:  # an error outside of the tests, of an import say, catches nothing
        return CAUGHT, failed[1]
    return MISSED, _last_line(done)


def _require_green(folder: Path, breaks: Sequence[Break]) -> None:
    """End the script where a named test fails without any break: with one its failure would prove nothing."""
    files = {each: Path(each.tests).name for each in breaks}
    names = {f"({file} and {each.word})" if each.word else file for each, file in files.items()}
    done = _run_tests(folder, sorted({f"tests/{each.tests}" for each in breaks}), " or ".join(sorted(names)))
    print(f"without a break: {_last_line(done)}", flush=True)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)


def _run_tests(folder: Path, files: Sequence[str], named: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "pytest", *NOT_SLOW, *files, *(["-k", named] if named else [])]
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def _write(file: Path, text: str) -> None:
    """Write a module; Python would take one of the same size and second for what it has compiled before."""
    Path(cache_from_source(str(file))).unlink(missing_ok=True)
    file.write_text(text, encoding="utf-8")


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    return (f"{done.stderr}\n{done.stdout}".strip().splitlines() or [""])[-1]


def _tell(each: Break, verdict: str, reason: str) -> bool:
    """Print a line of the table where there is a reason for the verdict; true if so."""
    if reason:
        print(f"{verdict:10}  {each}  ({reason})", flush=True)
    return bool(reason)


if __name__ == "__main__":
    main(sys.argv[1:])

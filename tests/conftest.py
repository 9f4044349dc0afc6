"""What several rooms' tests need: the command line, in this process and in another, on tiny settings."""

import gc
import json
import multiprocessing
import os
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest

from pruning_lit.system.preemption import SIGNALS
from tests.places import ROOT

# One thread, which torch reads when it is loaded (not here: the process that hands out the tests does without). Tiny
# networks gain nothing from more, tests run side by side, and a process that is forked from one whose OpenMP has
# threads waits for them for ever.
os.environ["OMP_NUM_THREADS"] = "1"

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a script: commands would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

#: Real networks, images and vectors that are not a part of the repository; the variable names their folder `data`.
SHARED = Path(os.environ.get("PRUNING_LIT_DATA", ROOT.parent / "shared" / "data")).parent


def shared_file(path: str) -> Path:
    """A file beside ``data``; without it the test is skipped."""
    if not (SHARED / path).is_file():
        pytest.skip(f"no {path} beside the folder PRUNING_LIT_DATA")
    return SHARED / path


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(items):
    """Mark as slow, of a test with ``at_once(count)``, all cases behind the first ``count``; long files come first.

    Files are handed out to processes whole (``--dist loadscope``), so the last ones should be short, or one process
    waits for another. Long are those that run commands or draw examples, then those of many tests.
    """
    seen: Counter[tuple[Path, str]] = Counter()
    for item in items:
        mark = item.get_closest_marker("at_once")
        if mark is not None:
            seen[item.path, item.originalname] += 1
            if seen[item.path, item.originalname] > mark.args[0]:
                item.add_marker(pytest.mark.slow)
    sizes = Counter(item.path for item in items)
    long = {
        item.path
        for item in items
        if "cli" in item.fixturenames or hasattr(item.module, "run_command") or hasattr(item.obj, "hypothesis")
    }
    items.sort(key=lambda item: (item.path not in long, -sizes[item.path], item.path))


def pytest_collection_finish():
    """Keep what has been imported out of the search for garbage, which takes a part of a second each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def no_process_stays():
    """What a failed or timed-out test has left running would disturb the next one, and be waited for at the end."""
    before = set(multiprocessing.active_children())
    yield
    for process in set(multiprocessing.active_children()) - before:
        process.kill()
        process.join(10)


@pytest.fixture(autouse=True)
def signals_as_before():
    """A command answers signals to the end of its process, and some run in this one."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def cli(monkeypatch, capfd):
    """Run the command line in this process; returns its exit code and what it printed."""
    from pruning_lit.__main__ import main

    def call(*overrides: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["pruning_lit", *overrides])
        capfd.readouterr()
        code: object = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code
        printed = "".join(capfd.readouterr())
        if isinstance(code, str):  # sys.exit(text) prints the text and ends with 1
            code, printed = 1, printed + code
        return int(code or 0), printed  # type: ignore[call-overload]

    return call


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """The folder of one uninterrupted run, for all who only look at it."""
    from tests.commands import EVERY, TINY, run_command

    folder = tmp_path_factory.mktemp("finished") / "run"
    run_command(*TINY, f"hydra.run.dir={folder}", EVERY)
    return folder


@pytest.fixture(scope="session")
def finished_by_two(tmp_path_factory) -> Path:
    """The same run by two processes."""
    from tests.commands import EVERY, TINY, TWO, run_command

    folder = tmp_path_factory.mktemp("finished_by_two") / "run"
    run_command(*TINY, *TWO, f"hydra.run.dir={folder}", EVERY)
    return folder


def read_report(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text())

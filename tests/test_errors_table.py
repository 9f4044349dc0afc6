"""Every bad input is refused as ``tests/errors.md`` says, and what is said to do about it works.

``python -m tests.errors`` writes that table anew.

A command takes half a second of composing, so the first two are tried at once and the others among the slow tests.
"""

import importlib
import sys
from time import perf_counter

import pytest

from tests.bad_inputs import CASES, MENDED, make_files, row, sentences, words_of
from tests.places import ROOT

TABLE = ROOT / "tests" / "errors.md"
MODULES = {"pruning_lit": "pruning_lit.__main__", "pruning_lit.report": "pruning_lit.report"}
MOST_SECONDS = 20.0


def run_main(module: str, *words: str) -> int:
    """The command in this process; its exit code."""
    before = sys.argv
    sys.argv = [module, *words]
    try:
        importlib.import_module(MODULES.get(module, module)).main()
    except SystemExit as stop:
        if isinstance(stop.code, str):  # what Python would do
            print(stop.code, file=sys.stderr)
            return 1
        return int(stop.code or 0)
    finally:
        sys.argv = before
    return 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the files that the cases name."""
    folder = tmp_path_factory.mktemp("bad_inputs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_files(folder, run_main)
    return folder


@pytest.mark.at_once(2)
@pytest.mark.parametrize("case", [pytest.param(case, id=case.wrong) for case in CASES])
def test_a_bad_input_is_refused_in_the_sentence_of_the_table(case, folder, monkeypatch, capfd):
    from pruning_lit.phases import Training

    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    monkeypatch.setattr(Training, "training_step", lambda *_: pytest.fail("training had begun"))
    begun = perf_counter()
    code = run_main(*case.words)
    seconds, printed = perf_counter() - begun, "".join(capfd.readouterr())
    assert code != 0
    assert "Traceback" not in printed
    assert seconds < MOST_SECONDS
    told = sentences(printed, folder)
    assert len(told) == case.jobs, printed
    assert row(case, told, code) in TABLE.read_text()


@pytest.mark.at_once(1)
@pytest.mark.parametrize("wrong", MENDED)
def test_what_the_sentence_says_to_do_works(wrong, folder, monkeypatch, capfd):
    """A run comes to its training, another command to its end."""
    from pruning_lit.runs.phase_runner import PhaseRunner

    assert wrong in {case.wrong for case in CASES}
    monkeypatch.chdir(folder)
    monkeypatch.setattr(PhaseRunner, "_fit", lambda *_: sys.exit(0))
    assert run_main(*words_of(MENDED[wrong])) == 0, capfd.readouterr()


def test_every_case_is_told_apart_by_what_is_wrong_with_it():
    assert len({case.wrong for case in CASES}) == len(CASES)

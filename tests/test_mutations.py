"""The deliberate breaks can still be made; ``python -m tests.mutations`` sees them caught."""

from dataclasses import replace

import pytest

from tests.breaks import BREAKS
from tests.mutations import CAUGHT, MISSED, copy_tracked, look, why_stale
from tests.places import ROOT


def test_every_break_can_be_made_and_has_its_tests():
    assert [f"{each}: {told}" for each in BREAKS if (told := why_stale(each))] == []


def test_there_are_breaks_in_every_package():
    packages = {path.parent.name for path in (ROOT / "pruning_lit").glob("*/__init__.py")}
    assert {each.room for each in BREAKS if "/" in each.file} == packages
    assert len(BREAKS) >= 40


@pytest.mark.slow
def test_what_breaks_nothing_and_what_is_no_longer_python_is_not_taken_for_caught(tmp_path):
    copied, each = copy_tracked(tmp_path), next(each for each in BREAKS if each.file == "criteria/magnitude.py")
    file = tmp_path / "pruning_lit" / each.file
    before = file.read_bytes()
    assert look(each, copied)[0] == CAUGHT
    for new in (f"{each.old} ", "("):
        assert look(replace(each, new=new), copied)[0] == MISSED
    assert file.read_bytes() == before

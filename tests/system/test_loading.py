"""What is loaded is not searched for garbage, neither meanwhile nor afterwards."""

import gc
import sys

import pytest

from pruning_lit.system.loading import loading


def test_the_collector_rests_while_something_is_loaded_and_no_longer():
    with loading():
        assert not gc.isenabled()
        with loading():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError), loading():
        raise ZeroDivisionError
    assert gc.isenabled()


def test_what_was_there_is_kept_from_the_collector_once_modules_were_loaded(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "loaded_for_tests.py").write_text("")
    monkeypatch.delitem(sys.modules, "loaded_for_tests", raising=False)
    frozen = gc.get_freeze_count()
    with loading():
        pass
    assert gc.get_freeze_count() <= frozen  # some of it may be gone
    with loading():
        import loaded_for_tests  # noqa: F401
    assert gc.get_freeze_count() > frozen

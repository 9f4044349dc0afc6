"""Files are written whole or not at all."""

from pathlib import Path

import pytest

from pruning_lit.system.atomic import replacing, write_text


def begin_to_write(path: Path) -> None:
    with replacing(path) as draft:
        draft.write_text("ha")
        raise KeyboardInterrupt


def test_a_write_that_is_broken_off_leaves_what_was_there_and_nothing_else(tmp_path):
    path = tmp_path / "folder" / "report.md"
    write_text(path, "whole")
    with pytest.raises(KeyboardInterrupt):
        begin_to_write(path)
    assert path.read_text() == "whole"
    assert [*path.parent.iterdir()] == [path]


def test_what_is_written_takes_the_place_of_what_was_there(tmp_path):
    path = tmp_path / "report.md"
    for text in ("one", "two"):
        with replacing(path) as draft:
            assert draft.suffix == ".md"  # some writers go by it
            draft.write_text(text)
        assert path.read_text() == text
        assert [*tmp_path.iterdir()] == [path]

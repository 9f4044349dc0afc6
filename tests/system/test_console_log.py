"""The log on the console."""

import io
import logging
import sys

import pytest

from pruning_lit.system.console_log import IN_FILE_ONLY, ConsoleLog


@pytest.fixture
def log():
    logger, console = logging.getLogger("tests.console"), ConsoleLog()
    logger.setLevel(logging.INFO)
    logger.propagate = False  # what commands have set up in this process prints, too
    logger.addHandler(console)
    yield logger
    logger.removeHandler(console)


def test_lines_go_where_standard_output_is_at_the_moment(log, monkeypatch):
    for text in ("first", "second"):  # as rich puts itself there while it shows a bar
        monkeypatch.setattr(sys, "stdout", io.StringIO())
        log.info(text)
        assert sys.stdout.getvalue() == f"{text}\n"


def test_what_is_for_the_file_alone_is_left_out(log, capsys):
    log.info("the bar shows this", extra=IN_FILE_ONLY)
    log.info("all see this")
    assert capsys.readouterr().out == "all see this\n"

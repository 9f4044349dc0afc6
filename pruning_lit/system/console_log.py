"""The log of a run on the console."""

import logging
import sys
from typing import TextIO

#: For what the console shows in another form: ``log.info(…, extra=IN_FILE_ONLY)``.
IN_FILE_ONLY = {"in_file_only": True}


class ConsoleLog(logging.StreamHandler):
    """Log on standard output as it is at the moment, so that lines come to stand above a bar, not within it.

    rich takes the place of ``sys.stdout`` while it shows a bar.

    Args:
        stream: named by Hydra's configuration of logging, of no effect.
    """

    def __init__(self, stream: object = None) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        """Standard output."""
        return sys.stdout

    def filter(self, record: logging.LogRecord) -> bool | logging.LogRecord:  # type: ignore[override]
        """Leave out what is for the file alone."""
        return not getattr(record, "in_file_only", False) and super().filter(record)


def can_show_bars() -> bool:
    """Return true where standard output is a terminal or a notebook."""
    return sys.stdout.isatty() or "ipykernel" in sys.modules

"""The log of a run in its folder."""

import logging
from contextlib import suppress


class LogFile(logging.FileHandler):
    """Log that stays behind where it cannot be written, on a full disk say; the console has it all the same.

    Python's own would print a traceback for every line, over the sentence on what has failed.
    """

    def handleError(self, record: logging.LogRecord) -> None:
        """Pass over a line that could not be written."""

    def flush(self) -> None:
        """Write what is waiting, if that can be."""
        with suppress(OSError):
            super().flush()

    def close(self) -> None:
        """Close the file, written or not."""
        with suppress(OSError):
            super().close()

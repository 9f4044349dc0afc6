"""The log of a run in its folder."""

import logging
from contextlib import suppress


class LogFile(logging.FileHandler):
    """A log that cannot be written, on a full disk say, stays behind; the console has it all the same.

    Python's own would print a traceback for every line, over the sentence on what has failed.
    """

    def handleError(self, record: logging.LogRecord) -> None:
        """Called within the ``except`` of a line that could not be written."""

    def flush(self) -> None:
        """Write what is waiting, if that can be."""
        with suppress(OSError):
            super().flush()

    def close(self) -> None:
        """Close the file, written or not."""
        with suppress(OSError):
            super().close()

"""Where tables are printed: as wide as a terminal, and whole where the output goes into a file or a pipe."""

import io
import re
import sys
from typing import IO, cast

from rich.console import Console

UNBOUNDED = 100_000  # columns


def open_console() -> Console:
    """A console that wraps at the terminal's width; elsewhere it neither wraps, nor colours, nor pads lines."""
    console = Console(markup=False, emoji=False, highlight=False)  # names and reasons may hold brackets and colons
    if console.is_terminal:
        return console
    return Console(file=cast(IO[str], _Unpadded()), width=UNBOUNDED, markup=False, emoji=False, highlight=False)


class _Unpadded(io.TextIOBase):
    """Standard output, without the blanks at the ends of lines that fill up the cells of a table."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """That of standard output; where it has no such signs, tables are drawn without them."""
        return sys.stdout.encoding

    def write(self, text: str) -> int:
        """Write whole lines."""
        sys.stdout.write(re.sub(r" +$", "", text, flags=re.MULTILINE))
        return len(text)

    def flush(self) -> None:
        """Hand on what was written."""
        sys.stdout.flush()

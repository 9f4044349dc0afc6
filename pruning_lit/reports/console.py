"""Console for tables: as wide as a terminal, and unwrapped where the output goes into a file or a pipe."""

import io
import re
import sys
from collections.abc import Sequence
from typing import IO, cast

from rich.console import Console
from rich.table import Table

UNBOUNDED = 100_000  # columns


def open_console() -> Console:
    """A console that wraps at the terminal's width; elsewhere it neither wraps, nor colours, nor pads lines."""
    console = Console(markup=False, emoji=False, highlight=False)  # names and reasons may hold brackets and colons
    if console.is_terminal:
        return console
    return Console(file=cast(IO[str], _Unpadded()), width=UNBOUNDED, markup=False, emoji=False, highlight=False)


def table_text(table: Table) -> str:
    """A table in plain text, as wide as it gets, without a blank at the end of a line."""
    written = io.StringIO()
    Console(file=written, width=UNBOUNDED, markup=False, emoji=False, highlight=False, color_system=None).print(table)
    return re.sub(r" +$", "", written.getvalue(), flags=re.MULTILINE).rstrip()


class _Unpadded(io.TextIOBase):
    """Standard output, without the blanks at the ends of lines that fill up the cells of a table."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Encoding of standard output; where it lacks the signs, tables are drawn without them."""
        return sys.stdout.encoding

    def write(self, text: str) -> int:
        """Write whole lines."""
        sys.stdout.write(re.sub(r" +$", "", text, flags=re.MULTILINE))
        return len(text)

    def flush(self) -> None:
        """Hand on what was written."""
        sys.stdout.flush()


def column_widths(rows: Sequence[Sequence[str]], total: int) -> list[int | None]:
    """Widths of the columns that leave every word whole.

    Each column gets its longest word; what is left over is shared out in proportion to what the columns could use.

    Args:
        rows: cells of text, the headings included, all rows of the same length.
        total: characters for all columns together.

    Returns:
        One width per column, or None for each where nothing has to be wrapped, or where the words do not fit.
    """
    columns = list(zip(*rows, strict=True))
    longest = [max(len(word) for cell in column for word in cell.split() or [""]) for column in columns]
    wished = [max(map(len, column)) for column in columns]
    left = total - sum(longest)
    missing = sum(wished) - sum(longest)
    if left < 0 or missing <= left:
        return [None] * len(columns)
    return [least + (most - least) * left // missing for least, most in zip(longest, wished, strict=True)]

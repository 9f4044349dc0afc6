"""Where tables are printed: as wide as a terminal, and whole where the output goes into a file or a pipe."""

from rich.console import Console

UNBOUNDED = 100_000  # columns


def open_console() -> Console:
    """A console that wraps at the terminal's width; elsewhere it neither wraps nor colours."""
    console = Console(markup=False, emoji=False, highlight=False)  # names and reasons may hold brackets and colons
    return console if console.is_terminal else Console(width=UNBOUNDED, markup=False, emoji=False, highlight=False)

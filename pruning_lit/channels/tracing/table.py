"""Table of a channel graph that fits a screen."""

from collections.abc import Sequence

NUM_ROWS = 20  # of longer graphs the beginning and the end are shown
WIDTHS = (24, 8, 24, 38)  # of the columns


def table(rows: Sequence[tuple[str, int, Sequence[str], str | None]]) -> str:
    """Groups as a table: name, number of channels, layers that read them, and why none may be removed.

    Args:
        rows: these four for each group; the reason is None where channels may be removed.
    """
    lines = [_line(("group", "channels", "read by", "protected")), _line(["─" * width for width in WIDTHS])]
    cells = [(name, f"{size:>8,}", _several(readers), reason or "") for name, size, readers, reason in rows]
    head, tail = NUM_ROWS - NUM_ROWS // 3, NUM_ROWS // 3
    if len(rows) <= NUM_ROWS:
        lines += map(_line, cells)
    else:
        lines += [*map(_line, cells[:head]), f"… {len(rows) - head - tail} more …", *map(_line, cells[-tail:])]
    free = [size for _, size, _, reason in rows if reason is None]
    total = sum(size for _, size, _, _ in rows)
    lines.append(f"{len(free)} of {len(rows)} groups may lose channels, {sum(free):,} of {total:,} channels")
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "  ".join(_short(cell, width).ljust(width) for cell, width in zip(cells, WIDTHS, strict=True)).rstrip()


def _short(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _several(names: Sequence[str]) -> str:
    return f"{names[0]} + {len(names) - 1}" if len(names) > 1 else "".join(names)

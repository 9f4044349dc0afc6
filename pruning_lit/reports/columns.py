"""Room for the columns of a table, so that words are broken only where they have to be."""

from collections.abc import Sequence


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

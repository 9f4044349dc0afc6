"""The table of every epoch's figures, ``metrics.csv``: a line per phase, epoch and figure."""

import csv
from pathlib import Path

from pruning_lit.system.atomic import replacing

HEADER = ("phase", "epoch", "step", "name", "value")


def lines_of(path: Path, phase: str) -> list[list[str]]:
    """Lines of ``metrics.csv`` that belong to one phase."""
    return [line for line in read_lines(path) if line[0] == phase]


def replace_lines(path: Path, phase: str, lines: list[list[str]], first_epoch: int = 0) -> None:
    """Put these lines in the place of what the table says of the phase, from an epoch on."""
    before = read_lines(path)
    stay = [line[0] != phase or int(line[1]) < first_epoch for line in before]
    place = max((index + 1 for index, line in enumerate(before) if line[0] == phase), default=len(before))
    head, tail = zip(before[:place], stay[:place], strict=True), before[place:]
    write_lines(path, [*(line for line, stays in head if stays), *lines, *tail])


def read_lines(path: Path) -> list[list[str]]:
    """Lines of ``metrics.csv`` without the heading; none where there is no such file."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.reader(file))[1:]


def write_lines(path: Path, lines: list[list[str]]) -> None:
    """Write ``metrics.csv`` anew, whole or not at all."""
    with replacing(path) as draft, draft.open("w", newline="") as file:
        csv.writer(file).writerows([HEADER, *lines])

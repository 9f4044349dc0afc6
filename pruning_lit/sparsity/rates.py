"""Rates exactly as they are written: decimals become fractions, never binary floating point."""

import math
import re
from collections.abc import Sequence
from fractions import Fraction

MOST = 10_000  # entries of a term; no network has as many layers
_TERM = re.compile(r"\[\s*([0-9]*\.?[0-9]*)\s*\]\s*(?:\*\s*([0-9]+))?")


def parse_rates(text: str | Sequence[float | str]) -> list[Fraction]:
    """The papers' list notation: ``[0.]+[0.15]*2+[0.4]*27`` is 0, then 0.15 twice, then 0.4 twenty-seven times.

    Args:
        text: terms ``[rate]`` or ``[rate]*count`` joined by ``+``, blanks allowed; or simply a list of rates.

    Returns:
        One share of removed channels per entry, each in [0, 1).

    Raises:
        ValueError: a term is malformed, a rate lies outside [0, 1), or a count outside 1…10,000.

    Source: the sparsity argument of Sui et al. 2021 (CHIP), as released.
    """
    if not isinstance(text, str):
        return [parse_rate(rate) for rate in text]
    rates: list[Fraction] = []
    for term in text.split("+"):
        match = _TERM.fullmatch(term.strip())
        if match is None or match[1] in ("", "."):
            raise ValueError(
                f"sparsity rates {text!r}: cannot read the term {term.strip()!r}, expected [rate] or [rate]*count"
            )
        count = int(match[2] or 1)
        if not 1 <= count <= MOST:
            raise ValueError(f"sparsity rates {text!r}: the count in {term.strip()!r} must be 1 to {MOST:,}")
        rates += [parse_rate(match[1])] * count
    return rates


def parse_rate(rate: float | str, name: str = "rate") -> Fraction:
    """One share of removed channels, exact as written; ValueError outside [0, 1)."""
    return parse_share(rate, name, "the share that is removed")


def parse_share(share: float | str, name: str, meaning: str) -> Fraction:
    """A share, exact as written; ValueError, with its name and meaning, outside [0, 1)."""
    try:
        exact = Fraction(str(share))
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"{name} {share!r} is not a number") from None
    if not 0 <= exact < 1:
        raise ValueError(f"{name} {share} lies outside [0, 1): it is {meaning}")
    return exact


def width_after(size: int, rate: Fraction) -> int:
    """Channels that stay of ``size`` when the share ``rate`` goes: rounded down, exactly."""
    return math.floor(size * (1 - rate))

"""Durations for people."""


def in_words(seconds: float) -> str:
    """A duration with two or three digits, as ``3.1 s``, ``53 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 119.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"

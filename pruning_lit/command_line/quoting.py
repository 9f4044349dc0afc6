"""Quotes of Hydra's around values that it cannot read without: paths with letters outside ASCII, ``=`` or ``&``."""

import re

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

PLAIN = re.compile(r"[\w./:+%@*?|$\\ -]*", re.ASCII)  # what Hydra reads without quotes
#: Lists, mappings, functions and what has quotes already, in which each element has quotes of its own.
STRUCTURED = re.compile(r"[\[{'\"]|\w+\(.*\)$")
PARTS = re.compile(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|\$\{[^}]*\}|(?:[^,:()\[\]{}'\"]|:(?=[/\\]))+|.", re.DOTALL)
BETWEEN_COMMAS = re.compile(r"(?:\$\{[^}]*\}|[^,])+")


def quoted(value: object) -> str:
    """Value of an override that Hydra reads as this very text, quoted where it has signs that mean something there."""
    text = str(value)
    plain = re.fullmatch(r"[\w./:+%@-]+", text, re.ASCII)
    if plain and isinstance(OverridesParser.create().parse_rule(text, "primitive"), str):
        return text  # no number, nor a word such as null
    ending = re.sub(r"\\+$", lambda found: 2 * found[0], text)  # in front of the last quote a backslash would escape it
    return "'" + re.sub(r"(\\*)'", lambda found: 2 * found[1] + r"\'", ending) + "'"


def readable(word: str) -> str:
    """Override that Hydra can read, with quotes where the value needs them; as it is where these do not help."""
    key, sign, value = word.partition("=")
    if not sign or word.startswith("-") or PLAIN.fullmatch(value) or _is_read(word):
        return word
    if STRUCTURED.match(value):
        value = PARTS.sub(lambda part: _quoted_part(part[0]), value)
    else:
        value = BETWEEN_COMMAS.sub(lambda part: part[0] if PLAIN.fullmatch(part[0]) else quoted(part[0]), value)
    mended = f"{key}={value}"
    return mended if _is_read(mended) else word


def _quoted_part(part: str) -> str:
    """An element of a list, or a key or value of a mapping; those in quotes and in ASCII stay."""
    text = part.strip()
    return part if PLAIN.fullmatch(part) or part[0] in ",:()[]{}'\"$" else part.replace(text, quoted(text))


def _is_read(word: str) -> bool:
    try:
        OverridesParser.create().parse_override(word)
    except HydraException:
        return False
    return True

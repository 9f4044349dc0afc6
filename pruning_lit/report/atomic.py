"""The files of reports are written whole or not at all, like all others."""

from pruning_lit.atomic import replacing, write_text

__all__ = ["replacing", "write_text"]

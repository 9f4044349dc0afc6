"""ResRep's conversion of one layer, by the name under which scripts import it."""

from pruning_lit.channels.modules.bn_folding import merge

__all__ = ["merge"]

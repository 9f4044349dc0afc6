"""Which channels hang together, and how to remove them. Usable on its own, without Lightning or Hydra."""

from pruning_lit.channels.artefact import load, save
from pruning_lit.channels.branch import ResidualBranch
from pruning_lit.channels.compactor import Compactor, Seat, attach_compactors, compactors, insert_compactors
from pruning_lit.channels.cost import Cost, cost, cost_of_widths
from pruning_lit.channels.cut import Move, Moves, Removal
from pruning_lit.channels.filling import fill_scatters
from pruning_lit.channels.graph import Branch, ChannelGraph, ChannelGroup, ChannelSlice, Kept, Maker, Tap
from pruning_lit.channels.relabel import ChannelRelabel, ChannelScatter, ChannelSelect
from pruning_lit.channels.scatters import attach_scatters
from pruning_lit.channels.selections import attach_selections
from pruning_lit.channels.shortcuts import insert_scatters
from pruning_lit.channels.sites import insert_selections
from pruning_lit.channels.stream import observe
from pruning_lit.channels.surgery import mask, narrow
from pruning_lit.channels.survivors import Gone, Survivors, gone
from pruning_lit.channels.trace import trace
from pruning_lit.channels.verify import verify
from pruning_lit.channels.widen import Regrowth, widen
from pruning_lit.channels.widths import adopt, adopt_on_load

__all__ = [
    "Branch",
    "ChannelGraph",
    "ChannelGroup",
    "ChannelRelabel",
    "ChannelScatter",
    "ChannelSelect",
    "ChannelSlice",
    "Compactor",
    "Cost",
    "Gone",
    "Kept",
    "Maker",
    "Move",
    "Moves",
    "Regrowth",
    "Removal",
    "ResidualBranch",
    "Seat",
    "Survivors",
    "Tap",
    "adopt",
    "adopt_on_load",
    "attach_compactors",
    "attach_scatters",
    "attach_selections",
    "compactors",
    "cost",
    "cost_of_widths",
    "fill_scatters",
    "gone",
    "insert_compactors",
    "insert_scatters",
    "insert_selections",
    "load",
    "mask",
    "narrow",
    "observe",
    "save",
    "trace",
    "verify",
    "widen",
]

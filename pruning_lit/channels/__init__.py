"""Channel graph and surgery: groups of channels that can only leave together, found, removed, masked, brought back.

Usable on its own, without Lightning or Hydra. Its shelves, each of which imports only those before it:

* ``modules``: layers that surgery works with, and child modules that are attached to layers
* ``tracing``: the identities of channels, followed through forward passes in eval and training mode, and their groups
* ``surgery``: rehearsal of a cut, ``narrow``, ``mask``, ``widen``, and the cost of a width
* ``insertion``: selections and scatters where a network has streams, and removal of scatters
* ``artefact``: a network in a file; ``hub``: one from the Hugging Face Hub
"""

from pruning_lit.channels.artefact import load, save
from pruning_lit.channels.insertion.fill import remove_scatters
from pruning_lit.channels.insertion.norm_inputs import insert_selections
from pruning_lit.channels.insertion.shortcuts import insert_scatters
from pruning_lit.channels.modules.attached import Attached, attach, register
from pruning_lit.channels.modules.branch import ResidualBranch
from pruning_lit.channels.modules.compactor import (
    Compactor,
    Placement,
    compactors,
    insert_compactors,
)
from pruning_lit.channels.modules.relabel import ChannelRelabel, ChannelScatter, ChannelSelect
from pruning_lit.channels.recalibration import recalibrate
from pruning_lit.channels.surgery.cost import Cost, cost, cost_of_widths, macs_by_layer
from pruning_lit.channels.surgery.followers import carry_average, migrate_optimizers
from pruning_lit.channels.surgery.history import PruningHistory, RemovedPositions, removed_positions
from pruning_lit.channels.surgery.moves import Move, Moves, Removal
from pruning_lit.channels.surgery.narrow import mask, narrow, verify
from pruning_lit.channels.surgery.trace import trace
from pruning_lit.channels.surgery.widen import Regrowth, widen
from pruning_lit.channels.surgery.widths import adopt, adopt_on_load
from pruning_lit.channels.tracing.graph import (
    Branch,
    ChannelGraph,
    ChannelGroup,
    ChannelSlice,
    FeatureMap,
    Kept,
    Producer,
)
from pruning_lit.channels.tracing.operations import observe

attach_compactors = attach_scatters = attach_selections = attach  # public names of before there was one for all

__all__ = [
    "Attached",
    "Branch",
    "ChannelGraph",
    "ChannelGroup",
    "ChannelRelabel",
    "ChannelScatter",
    "ChannelSelect",
    "ChannelSlice",
    "Compactor",
    "Cost",
    "FeatureMap",
    "Kept",
    "Move",
    "Moves",
    "Placement",
    "Producer",
    "PruningHistory",
    "Regrowth",
    "Removal",
    "RemovedPositions",
    "ResidualBranch",
    "adopt",
    "adopt_on_load",
    "attach",
    "attach_compactors",
    "attach_scatters",
    "attach_selections",
    "carry_average",
    "compactors",
    "cost",
    "cost_of_widths",
    "insert_compactors",
    "insert_scatters",
    "insert_selections",
    "load",
    "macs_by_layer",
    "mask",
    "migrate_optimizers",
    "narrow",
    "observe",
    "recalibrate",
    "register",
    "remove_scatters",
    "removed_positions",
    "save",
    "trace",
    "verify",
    "widen",
]

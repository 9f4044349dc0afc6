"""Which channels hang together, and how to remove them. Usable on its own, without Lightning or Hydra."""

from pruning_lit.channels.relabel import ChannelRelabel, ChannelScatter, ChannelSelect

__all__ = ["ChannelRelabel", "ChannelScatter", "ChannelSelect"]

"""Channel pruning of CNNs on PyTorch Lightning and Hydra."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

__version__ = "0.1.0"


def from_pretrained(folder_or_repo: "str | Path", revision: str | None = None) -> "nn.Module":
    """Read a network from a folder, or from a repository of the Hugging Face Hub; see ``channels.hub``."""
    from pruning_lit.channels.hub import from_pretrained  # late: the commands do without torch for as long as they can

    return from_pretrained(folder_or_repo, revision)

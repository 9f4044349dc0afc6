"""What all callbacks share that make a network smaller."""

from abc import abstractmethod
from typing import Any

from pytorch_lightning import Callback


class Pruning(Callback):
    """Makes the network smaller within, or at the end of, a phase, and records what it did.

    Attributes:
        cuts: for the report, one record per cut; a part of the callback's state.
    """

    cuts: list[dict[str, Any]]

    @property
    @abstractmethod
    def finished(self) -> bool:
        """Whether the network has its final width."""

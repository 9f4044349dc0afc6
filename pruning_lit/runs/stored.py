"""Whatever holds a network, by its path: a network file, the folder of a run, a checkpoint, or plain weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from pruning_lit.channels import trace
from pruning_lit.models.new_head import heads_of
from pruning_lit.models.weights import load_weights
from pruning_lit.runs.network_file import NetworkFile
from pruning_lit.system.checksum import WrongChecksum
from pruning_lit.tasks.base import Task, View

if TYPE_CHECKING:
    from pruning_lit.runs.phase_checkpoint import PhaseCheckpoint


def fill(net: nn.Module, source: str, example: Any, view: View = Task.view, new_head: bool = False) -> None:
    """Fill a network, in place, from whatever ``weights=`` may name.

    Args:
        net: at least as wide as the network in the file.
        source: a network file or a run's folder, a checkpoint of a phase, or what ``load_weights`` takes.
        example: an input of its view.
        view: the part of a network that is pruned.
        new_head: layers whose outputs nothing reads keep the weights they have, where the file has another number of
            outputs.

    Raises:
        FileNotFoundError: there is nothing of that name.
        ValueError: it cannot be read, or does not fit.
    """
    stored = open_if_ours(source)
    heads = heads_of(net, view(net), trace(view(net), example)) if new_head else ()
    if stored is None:
        load_weights(net, source, heads)
    else:
        stored.fill(net, example, view, heads)


def open_if_ours(source: str, allowed: Sequence[str] = ()) -> "NetworkFile | PhaseCheckpoint | None":
    """Open what a run has written, see ``open_stored``; None for other weights, or what cannot be read at all."""
    path = Path(source)
    if path.is_dir():
        return NetworkFile(path, allowed)
    if path.suffix not in (".safetensors", ".ckpt") or not path.is_file():
        return None
    try:
        return open_stored(source, allowed)
    except WrongChecksum:
        raise
    except ValueError:
        return None


def open_stored(path: str, allowed: Sequence[str] = ()) -> "NetworkFile | PhaseCheckpoint":
    """Open what the user has named: a checkpoint by its ending, else a network file or the folder of a run.

    Args:
        path: as named.
        allowed: packages, modules or full names of code of the user's own that what is stored there may name.
    """
    if path.endswith(".ckpt"):
        from pruning_lit.runs.phase_checkpoint import PhaseCheckpoint  # late: callbacks of Lightning make it final

        return PhaseCheckpoint(Path(path), allowed)
    return NetworkFile(Path(path), allowed)

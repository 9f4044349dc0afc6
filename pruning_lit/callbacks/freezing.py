"""Freezing of some layers in the first epochs of a phase, as trained weights are adapted to other classes."""

import logging
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import accumulate
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from pruning_lit.callbacks.optimizer_state import rebuild_ddp

log = logging.getLogger(__name__)


class Freezing(Callback):
    """Let some layers keep their weights in the first epochs of a phase.

    Their parameters get no gradient, and so neither a step nor weight decay nor momentum of the optimizer; their batch
    norms go by their running statistics and leave them alone. A cut among them is made all the same. Which parameters
    are frozen depends on the epoch alone, so nothing need be kept in a checkpoint.

    Args:
        layers: patterns (``layer1``, ``*.bn1``) of names of modules or parameters; of a module all in it is frozen.
        epochs: how many; None: all of the phase.

    Raises:
        ValueError: these are no patterns, or no number of epochs.
    """

    def __init__(self, layers: Sequence[str], epochs: int | None = None) -> None:
        if isinstance(layers, str) or not isinstance(layers, Sequence) or not layers:
            raise ValueError(f"freeze.layers is a list of patterns of names such as [conv1, layer1], got {layers!r}")
        if epochs is not None and (isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1):
            raise ValueError(f"freeze.epochs must be a whole number of at least 1, or null for all, got {epochs!r}")
        self.layers, self.epochs = [str(pattern) for pattern in layers], epochs
        self.frozen: list[str] = []  # parameters that would learn

    def check(self, net: nn.Module) -> None:
        """ValueError where a pattern matches nothing, or nothing is left to learn."""
        names = [name for name, _ in net.named_parameters()]
        for pattern in self.layers:
            if not any(fnmatchcase(part, pattern) for name in names for part in _path(name)):
                raise ValueError(f"freeze.layers: nothing in the network is called {pattern!r}; some are {names[:5]}")
        if all(self._matches(name) for name, each in net.named_parameters() if each.requires_grad):
            raise ValueError(f"freeze.layers={self.layers} freezes all of the network: leave something to learn")

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Freeze before the distributed wrapper asks which parameters learn."""
        net: nn.Module = pl_module.net  # type: ignore[assignment]
        self.frozen = [name for name, each in net.named_parameters() if each.requires_grad and self._matches(name)]
        self._let_learn(net, False)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Freeze or let go; a cut may have made new parameters, and an epoch may be resumed anywhere."""
        net: nn.Module = pl_module.net  # type: ignore[assignment]
        frozen = self.epochs is None or trainer.current_epoch < self.epochs
        changed = self._let_learn(net, not frozen)
        if changed:
            rebuild_ddp(trainer)
        if frozen or changed:
            self._train_norms(net, not frozen)
        if changed and not frozen and trainer.is_global_zero:
            log.info(
                "epoch %d: the %d frozen parameters learn from now on", trainer.current_epoch + 1, len(self.frozen)
            )

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave a network of which all learns to the next phase."""
        net: nn.Module = pl_module.net  # type: ignore[assignment]
        self._let_learn(net, True)
        self._train_norms(net, pl_module.training)

    def _let_learn(self, net: nn.Module, learn: bool) -> bool:
        """True where that is new for one of the parameters."""
        parameters = dict(net.named_parameters())
        there = [parameters[name] for name in self.frozen if name in parameters]  # branches may have gone
        changed = [each for each in there if each.requires_grad != learn]
        for parameter in changed:
            parameter.requires_grad_(learn)
            parameter.grad = None
        return bool(changed)

    def _train_norms(self, net: nn.Module, mode: bool) -> None:
        """Put the norms of frozen layers into training mode, or into eval mode."""
        for path, module in net.named_modules():
            own = [f"{path}.{name}" for name, _ in module.named_parameters(recurse=False)] or [path]
            if isinstance(module, _NormBase) and all(map(self._matches, own)):
                module.train(mode)

    def _matches(self, name: str) -> bool:
        return any(fnmatchcase(part, pattern) for part in _path(name) for pattern in self.layers)


def _path(name: str) -> Iterator[str]:
    """Names of all that a parameter is in, and its own: ``a``, ``a.b``, ``a.b.weight``."""
    return accumulate(name.split("."), lambda outer, inner: f"{outer}.{inner}")

"""Training and evaluation mode of the modules of a model: setting it for a pass, and noting who asks for it."""

import functools
import sys
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from pruning_lit.channels.tracing.randomness import Draws

#: These make other numbers of channels in training: zeros become something else.
NOT_ZERO = (nn.AlphaDropout, nn.FeatureAlphaDropout)
#: Stochastic depth by a factor for each picture, 0 or not.
BY_FACTOR = frozenset({"torchvision.ops.stochastic_depth.StochasticDepth", "timm.layers.drop.DropPath"})
#: Modules whose code asks layers for their mode without doing anything else to channels; and ours, for hooks.
READERS = ("torch.", "pruning_lit.channels.tracing.", *(name.rpartition(".")[0] for name in BY_FACTOR))


@dataclass(frozen=True)
class PassMode:
    """Mode of a forward pass.

    Attributes:
        training: whether the modules are in training mode. Norms that differ in their statistics alone are not even
            then: what they do to channels is the same, with statistics that a single picture has, too.
        draws: random numbers, see ``randomness``.
    """

    training: bool = False
    draws: Draws = "any"

    def set(self, model: nn.Module) -> None:
        """Put a model into this mode."""
        switch(model, False)
        if self.training:
            switch(model, True)
            for module in model.modules():
                if differs_in_statistics(type(module)):
                    module.training = False

    def __str__(self) -> str:
        """For people, behind the name of an operation."""
        return ", in training" if self.training else ""


class mode_reads:
    """Context that notes who asks for the mode of a module.

    Attributes:
        asked: whether, so far, somebody has asked for it who may do something else with it than PyTorch's own layers,
            which leave channels where they are: a module of another kind, or code that asks a layer for its mode.
    """

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> "mode_reads":
        # ``training`` is an attribute of each module; a property of the class is asked first
        nn.Module.training = property(self._read, _write)  # type: ignore[assignment]
        return self

    def __exit__(self, *exception: object) -> None:
        del nn.Module.training

    def _read(self, module: nn.Module) -> bool:
        reader = sys._getframe(1).f_globals.get("__name__", "")
        self.asked = self.asked or acts_on_mode(type(module)) or not reader.startswith(READERS)  # type: ignore[arg-type]
        try:
            return vars(module)["training"]
        except KeyError:
            return module.__getattr__("training")  # type: ignore[return-value]


def _write(module: nn.Module, value: bool) -> None:
    vars(module)["training"] = value


@functools.lru_cache
def acts_on_mode(kind: type[Any]) -> bool:
    """True for kinds of modules that may do something to channels in training that they do not in evaluation."""
    name = f"{kind.__module__}.{kind.__qualname__}"
    known = name.startswith("torch.nn.") or name in BY_FACTOR or differs_in_statistics(kind)
    return issubclass(kind, NOT_ZERO) or not known


def differs_in_statistics(kind: type[Any]) -> bool:
    """True for norms that differ in training by the statistics alone: PyTorch's, and those that say ``over_ranks``."""
    own = not getattr(kind, "over_ranks", False) and not kind.forward.__module__.startswith("torch.nn.")
    return issubclass(kind, _NormBase) and not own


def switch(model: nn.Module, training: bool) -> None:
    """Put a model into training or eval mode; in one go where no module has a way of its own to be told."""
    modules = list(model.modules())
    if all(map(_is_told_as_usual, {type(module) for module in modules})):
        for module in modules:
            vars(module)["training"] = training
    else:
        model.train(training)


def _is_told_as_usual(kind: type[nn.Module]) -> bool:
    usual = (kind.train, kind.eval, kind.__setattr__) == (nn.Module.train, nn.Module.eval, nn.Module.__setattr__)
    return usual and not hasattr(kind, "training")


class still:
    """Context in which a model that is not run itself, but may be reached from its replica, has no effects of training.

    Its modules are not told: some change weights then.
    """

    def __init__(self, model: nn.Module) -> None:
        self.flags = [(vars(module), module.training) for module in model.modules() if "training" in vars(module)]

    def __enter__(self) -> None:
        for attributes, _ in self.flags:
            attributes["training"] = False

    def __exit__(self, *exception: object) -> None:
        for attributes, training in self.flags:
            attributes["training"] = training


def changes_with_mode(model: nn.Module) -> bool:
    """True where a module does something of its own when its mode is set."""
    kinds = {type(module) for module in model.modules()}
    return any(kind.train is not nn.Module.train or kind.eval is not nn.Module.eval for kind in kinds)

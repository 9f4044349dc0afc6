"""Follow the identities of channels through one forward pass."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from pruning_lit.channels.flow import Flow, Role
from pruning_lit.channels.graph import LayerCall
from pruning_lit.channels.identity import Identities
from pruning_lit.channels.relabel import ChannelRelabel
from pruning_lit.channels.shadow import NONE, along, compact, settle, spread
from pruning_lit.channels.stream import OperationStream, tensors_of


class Tracer(OperationStream):
    """Gives every tensor of a forward pass its shadow, and collects the ties between channels.

    What each kind of operation does to identities is in ``rules``; this class holds what the rules work on.
    """

    def __init__(self, model: nn.Module, rule_for: Callable[[torch._ops.OpOverload], Callable]) -> None:
        super().__init__()
        self.rule_for = rule_for
        self.identities = Identities()
        self.flow = Flow()
        self.calls: list[LayerCall] = []
        self.entries: list[str] = []
        self.relabel_inputs: dict[str, Tensor] = {}
        self.writers: dict[tuple[str, int], str] = {}  # slot to the layer that makes these channels
        self.readers: dict[tuple[str, int], str] = {}  # slot to the layer that consumes them
        self.shadows = WeakIdKeyDictionary()
        self.module_path: list[str] = [""]
        self.names: dict[int, str] = {}
        for name, tensor in model.state_dict(keep_vars=True).items():  # a buffer that is not saved has a fixed width
            self.names.setdefault(id(tensor), name)
        self.hooks: list[Any] = []
        for path, module in model.named_modules():
            self._watch(path, module)

    def name_of(self, tensor: Any) -> str | None:
        """State-dict name of a parameter or buffer; None for anything else."""
        return self.names.get(id(tensor)) if isinstance(tensor, Tensor) else None

    def shadow(self, tensor: Tensor) -> Tensor | None:
        """The shadow of a tensor, or None where no channel is in it.

        A parameter or buffer with a single dimension longer than 1 has identities of its own along that dimension.
        """
        if tensor in self.shadows:
            return self.shadows[tensor]
        name = self.name_of(tensor)
        long = [dim for dim, length in enumerate(tensor.shape) if length > 1]
        if name is None or len(long) != 1:
            return None
        return spread(self.identities.of(name, long[0], tensor.shape[long[0]]), long[0], tensor.shape)

    def channels(self, tensor: Tensor, dim: int = 1) -> Tensor:
        """The identities along ``dim`` of an activation, shape ``(length,)``, -1 where it has none.

        Where the identities do not lie along ``dim`` alone they are frozen, and -1 is returned.
        """
        none = torch.full((tensor.shape[dim],), NONE)
        shadow = self.shadow(tensor)
        if shadow is None:
            return none
        identities = along(shadow, dim)
        if identities is None:
            self.freeze(tensor, "its channels are spread over several dimensions where they are used")
            return none
        return identities

    def place(self, tensor: Tensor, shadow: Tensor) -> None:
        """Put a shadow beside a tensor; one without any channel in it is forgotten."""
        self.shadows.pop(tensor, None)
        if bool((compact(shadow) >= 0).any()):
            self.shadows[tensor] = settle(shadow)

    def set_channels(self, tensor: Tensor, identities: Tensor, dim: int = 1) -> None:
        """Declare the identities along ``dim`` of an activation."""
        self.place(tensor, spread(identities, dim, tensor.shape))

    def freeze(self, tensor: Tensor, reason: str) -> None:
        """Forbid the removal of all channels in ``tensor``; the reason is told together with the module it arose in."""
        shadow = self.shadow(tensor)
        if shadow is not None:
            self.freeze_identities(shadow, reason)

    def freeze_identities(self, identities: Tensor, reason: str) -> None:
        """Forbid the removal of these identities."""
        path = self.module_path[-1]
        self.identities.freeze(identities, f"{reason} (in {path!r})" if path else reason)

    def seen(self, index: int, operation: torch._ops.OpOverload, args: tuple, kwargs: dict, result: Any) -> None:
        """Apply the rule of one operation."""
        role = self.rule_for(operation)(self, operation, args, kwargs, result)
        for output in tensors_of(result)[:1]:
            shadow = self.shadows.get(output)
            identities = along(shadow, 1) if shadow is not None and shadow.ndim > 1 else None
            self.flow.add(index, role or Role.OTHER, tensors_of((args, kwargs)), output, identities)

    def _watch(self, path: str, module: nn.Module) -> None:
        def enter(_module: nn.Module, _args: Any) -> None:
            self.module_path.append(path)

        def leave(_module: nn.Module, args: tuple, result: Any) -> None:
            self.module_path.pop()
            if isinstance(module, ChannelRelabel):
                self._relabelled(f"{path}.source" if path else "source", args[0], result)

        self.hooks += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]

    def _relabelled(self, name: str, given: Tensor, result: Tensor) -> None:
        self.paused = True  # hooks run among the model's own operations
        if name in self.relabel_inputs:
            self.freeze(given, f"{name!r} is used more than once")
            self.freeze(result, f"{name!r} is used more than once")
        self.relabel_inputs[name] = self.channels(given)
        self.set_channels(result, self.identities.of(name, 0, result.shape[1]))
        self.paused = False

    def close(self) -> None:
        """Take the hooks off the model again."""
        for hook in self.hooks:
            hook.remove()

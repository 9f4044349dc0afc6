"""Child modules that act on what their layer reads or makes, by hooks: attached, found, adopted from a state dict."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from torch import Tensor, nn

MARK = "is_attached"


@dataclass(frozen=True)
class Attached:
    """A kind of child module that layers may have, whatever their own ``forward`` does.

    A state dict gets the names of the child's tensors behind that of its layer; no other name changes.

    Attributes:
        name: of the child in its layer.
        hosts: classes of the layers to which a state dict may give one.
        in_front: whether the child acts on the layer's input, else on its output.
        saved, ndim: name of the child's tensor by which a state dict tells that there is a child, and its dimensions.
        build: the child from that tensor, whose values are loaded afterwards.
    """

    name: str
    hosts: tuple[type[nn.Module], ...]
    in_front: bool
    saved: str
    ndim: int
    build: Callable[[Tensor], nn.Module]

    def child(self, layer: nn.Module) -> Any:
        """The child of this kind that a layer has, or None; what an architecture has under that name is none."""
        child = layer._modules.get(self.name)
        return child if child is not None and MARK in vars(child) else None

    def found(self, model: nn.Module) -> list[str]:
        """Paths of the layers that have such a child, in the order of the model's modules."""
        return [path for path, layer in model.named_modules() if self.child(layer) is not None]

    def entry(self, path: str) -> str:
        """State-dict name of the tensor by which the child of the layer at ``path`` is known."""
        return f"{path}.{self.name}.{self.saved}" if path else f"{self.name}.{self.saved}"

    def put(self, layer: nn.Module, child: nn.Module) -> None:
        """Give a layer this child, on the layer's device."""
        vars(child)[MARK] = True  # copies have it, too
        home = next(chain(layer.parameters(), layer.buffers()), None)
        layer.add_module(self.name, child if home is None else child.to(home.device))
        _hook(layer)

    def remove(self, layer: nn.Module) -> None:
        """Take the child of a layer out again."""
        del layer._modules[self.name]
        _hook(layer)

    def adopt(self, model: nn.Module, state: Mapping[str, Tensor], prefix: str = "") -> None:
        """Give the layers of ``model`` the children that ``state``, whose names begin with ``prefix``, has for them.

        A child that several layers share becomes one child each.
        """
        for path, layer in list(model.named_modules()):
            saved = state.get(prefix + self.entry(path))
            if saved is None or saved.ndim != self.ndim or not saved.numel():
                continue
            if isinstance(layer, self.hosts) and self.name not in layer._modules:
                self.put(layer, self.build(saved))


KINDS: list[Attached] = []  # those on the same side of a layer act in this order


def register(kind: Attached, first: bool = False) -> Attached:
    """Make a kind known to loading, to the synchronisation of batch norms, and to batch-norm folding.

    Args:
        kind: its name is taken by no other kind.
        first: whether it acts before the kinds that are known already.
    """
    KINDS.insert(0 if first else len(KINDS), kind)
    return kind


def attach(model: nn.Module) -> None:
    """Let the attached children of all layers act, where they do not yet.

    ``nn.SyncBatchNorm.convert_sync_batchnorm``, for one, makes batch norms anew: with the children, without the hooks.
    """
    for layer in model.modules():
        _hook(layer)


def hand_over(layer: nn.Module, heir: nn.Module) -> None:
    """Give ``heir``, which takes the place of ``layer``, the attached children that it may have."""
    for kind in KINDS:
        if isinstance(heir, kind.hosts) and (child := kind.child(layer)) is not None:
            kind.put(heir, child)


def _hook(layer: nn.Module) -> None:
    """Give a layer the hooks that its attached children need, each once, and no others of that kind."""
    sides = {kind.in_front for kind in KINDS if kind.child(layer) is not None}
    before = [number for number, hook in layer._forward_pre_hooks.items() if hook is apply_in_front]
    behind = [number for number, hook in layer._forward_hooks.items() if hook is apply_behind]
    if True in sides and not before:
        layer.register_forward_pre_hook(apply_in_front)
    if False in sides and not behind:
        layer.register_forward_hook(apply_behind, prepend=True)  # a hook of somebody else sees what the children made
    for number in before if True not in sides else ():
        del layer._forward_pre_hooks[number]
    for number in behind if False not in sides else ():
        del layer._forward_hooks[number]


def apply_in_front(layer: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Forward pre-hook: the arguments, the first of them through the attached children in front."""
    for kind in KINDS:
        if kind.in_front and (child := kind.child(layer)) is not None:
            args = (child(args[0]), *args[1:])
    return args


def apply_behind(layer: nn.Module, _args: Any, output: Tensor) -> Tensor:
    """Forward hook: the output, through the attached children behind."""
    for kind in KINDS:
        if not kind.in_front and (child := kind.child(layer)) is not None:
            output = child(output)
    return output

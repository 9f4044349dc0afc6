"""Follow the identities of channels through one forward pass."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from pruning_lit.channels.modules.relabel import ChannelRelabel, ChannelSelect
from pruning_lit.channels.tracing.dataflow import DataFlow, Role
from pruning_lit.channels.tracing.graph import LayerCall
from pruning_lit.channels.tracing.identities import Identities
from pruning_lit.channels.tracing.kinds import (
    COPIES,
    Operation,
    counts_values,
    gives_numbers,
    gives_views,
    short_name,
    takes_all,
)
from pruning_lit.channels.tracing.modes import PassMode
from pruning_lit.channels.tracing.operations import OperationMode, tensors_in, tensors_of, without_gradients
from pruning_lit.channels.tracing.provenance import Provenance, Provenances, way_of
from pruning_lit.channels.tracing.randomness import alike, drops_out, is_random
from pruning_lit.channels.tracing.reach import Reach, memory_of
from pruning_lit.channels.tracing.shadow import NONE, Outline, compact, constant, outline, settle, spread
from pruning_lit.channels.tracing.sizes import sizes_of
from pruning_lit.channels.tracing.splits import Split, Splits
from pruning_lit.channels.tracing.transcript import Decision, OpRecord, Transcript
from pruning_lit.channels.tracing.views import StoredTensors
from pruning_lit.channels.tracing.weak import WeakIdMap

EVALUATION = PassMode()


class Tracer(OperationMode):
    """Mode that gives every tensor of a forward pass its shadow, and collects the ties between channels.

    What each kind of operation does to identities is in ``rules``; this class holds what the rules work on.

    Args:
        model: the model that is going to run.
        rule_for: the rule of an operation.
        numbers_of: the numbers among the arguments of an operation that are no widths.
        mode: of the pass.
    """

    def __init__(
        self,
        model: nn.Module,
        rule_for: Callable[[Operation], Callable[..., Role | None]],
        numbers_of: Callable[..., tuple[object, ...]],
        mode: PassMode = EVALUATION,
    ) -> None:
        super().__init__()
        self.rule_for, self.numbers_of, self.mode = rule_for, numbers_of, mode
        self.identities = self.start()
        self.splits = Splits()
        self.split: Split | None = None
        self.sizes: tuple[int, ...] = ()  # of the present operation
        self.stored = StoredTensors(model)
        self.position = 0  # how many steps there have been
        self.flow, self.reach = DataFlow(), Reach()
        self.drew = self.looked = False  # whether numbers were drawn at random, and whether a value was looked at
        self.asked = False  # whether a module asked if it is in training
        self.calls: list[LayerCall] = []
        self.examples = 1  # in the batch
        self.order: list[str] = []  # weights, and what selects, in the order of their use
        self.entries: list[str] = []
        self.relabel_inputs: dict[str, Tensor] = {}
        self.writers: dict[tuple[str, int], str] = {}  # slot to the layer that makes these channels
        self.readers: dict[tuple[str, int], str] = {}  # slot to the layer that consumes them
        self.shadows: WeakIdMap[Tensor] = WeakIdMap()
        self.outlines: WeakIdMap[Outline] = WeakIdMap()  # beside shadows
        self.settled: WeakIdMap[bool] = WeakIdMap()  # shadows that have been placed already
        self.spreads: dict[Any, tuple[Tensor, Tensor]] = {}  # identities, and their shadow in a shape
        self.own: dict[str, Tensor] = {}  # shadows of parameters and buffers
        self.zeroed: WeakIdMap[bool] = WeakIdMap()  # tensors that are zero where a channel has been removed
        self.overwritten: WeakIdMap[bool] = WeakIdMap()  # memory into which something else than zero was written
        self.views: WeakIdMap[bool] = WeakIdMap()  # tensors whose memory is read by others, too
        self.provenances = Provenances(self.shadows.__contains__, self.name_of)
        self.module_path: list[str] = [""]
        modules = dict(model.named_modules())
        self.relabels = {path: module for path, module in modules.items() if isinstance(module, ChannelRelabel)}
        self.hooks: list[Any] = []
        for path, module in modules.items():
            self._watch(path, module)
        parameters = (one for module in modules.values() for one in module._parameters.values() if one is not None)
        self.parameters = {id(memory): one for one in parameters if (memory := memory_of(one)) is not None}
        self.written: dict[int, Tensor] = {}  # parameters into which the model writes, as they were
        self.data = [(one, one.detach()) for one in self.parameters.values()]  # a model may set their ``data``
        self.constants: WeakIdMap[bool] = WeakIdMap()  # tensors that are made of stored ones alone, whatever the input
        self.constant = False  # whether the present operation takes nothing else
        self.knows_batch = False  # whether a layer has been called on something else
        self._start_step()

    def start(self) -> Identities:
        """Begin a transcript, and give out its identities."""
        self.transcript = Transcript([], {}, [], {}, [])
        return Identities(self.transcript.slots, self.transcript.made)

    def name_of(self, tensor: Any) -> str | None:
        """State-dict name of a parameter or buffer; None for anything else."""
        return self.stored.name_of(tensor)

    def shadow(self, tensor: Tensor) -> Tensor | None:
        """The shadow of a tensor, or None where no channel is in it.

        A parameter or buffer with a single dimension longer than 1 has identities of its own along that dimension.
        """
        if (shadow := self.shadows.get(tensor, None)) is not None:
            return shadow
        name = self.name_of(tensor)
        if name is None:
            return None
        if name not in self.own and (dim := self.own_dimension(name, tensor)) is not None:
            self.own[name] = spread(self.identities.of(name, dim, tensor.shape[dim]), dim, tensor.shape)
        return self.own.get(name)

    def outline(self, shadow: Tensor) -> Outline:
        """The identities in a shadow, without repetition."""
        if (known := self.outlines.get(shadow, None)) is None:
            known = self.outlines[shadow] = outline(shadow)
        return known

    def own_dimension(self, name: str, tensor: Tensor) -> int | None:
        """The only dimension of a parameter or buffer that is longer than 1."""
        long = [dim for dim, length in enumerate(tensor.shape) if length > 1]
        if len(long) == 1:
            self.transcript.own[name] = long[0]
        return self.transcript.own.get(name)

    def channels(self, tensor: Tensor, dim: int = 1) -> Tensor:
        """The identities along ``dim`` of an activation, shape ``(length,)``, -1 where it has none.

        Where others lie beside them in further dimensions, as those of two layers one after the other in space, all at
        one position leave together. Where they do not lie along ``dim`` they are frozen, and -1 is returned.
        """
        shadow = self.shadow(tensor)
        identities = None if shadow is None else self.outline(shadow).along(dim)
        if identities is not None:
            return identities
        if shadow is not None and self.varies(shadow, dim) and not bool((compact(shadow) < 0).any()):
            rows = self.outline(shadow)
            along = rows.identities.movedim(rows.dims.index(dim % shadow.ndim), 0).flatten(1)
            self.identities.tie(along[:, :1].expand_as(along[:, 1:]), along[:, 1:])
            return along[:, 0]
        if shadow is not None:
            self.freeze(tensor, "its channels are spread over several dimensions where they are used")
        return torch.full((tensor.shape[dim],), NONE)

    def varies(self, shadow: Tensor, dim: int) -> bool:
        """True where the identities differ along ``dim``; the answer becomes a part of the step."""
        return self.decide(dim % shadow.ndim in self.outline(shadow).dims)

    def decide(self, answer: bool) -> bool:
        """Note an answer on which a rule depends and that narrowing may change; only for what has channels in it."""
        self.decisions.append(answer)
        return answer

    def note(self, *numbers: object) -> None:
        """Remember what must be the same whenever this step is taken again."""
        self.notes += numbers

    def is_zero_when_pruned(self, tensor: Tensor) -> bool:
        """True where removed channels are zero in a tensor, when they are masked."""
        if tensor in self.zeroed:
            return tensor.untyped_storage() not in self.overwritten
        return self.stored.is_masked(tensor)

    def place(self, tensor: Tensor, shadow: Tensor, zeroed: bool = False) -> None:
        """Put a shadow beside a tensor; one without any channel in it is forgotten."""
        self.zeroed.discard(tensor)
        if shadow not in self.settled:
            if not bool((compact(shadow) >= 0).any()):
                self.shadows.discard(tensor)
                return
            shadow = settle(shadow)
            self.settled[shadow] = True
        self.shadows[tensor] = shadow
        if zeroed:
            self.zeroed[tensor] = True

    def set_channels(self, tensor: Tensor, identities: Tensor, dim: int = 1, zeroed: bool = False) -> None:
        """Declare the identities along ``dim`` of an activation."""
        key = id(identities), dim, tensor.shape
        if key not in self.spreads or self.spreads[key][0] is not identities:
            self.spreads[key] = identities, spread(identities, dim, tensor.shape)
            self._remember(identities, dim, self.spreads[key][1])
        self.place(tensor, self.spreads[key][1], zeroed)

    def _remember(self, identities: Tensor, dim: int, shadow: Tensor) -> None:
        """Note of a shadow with these identities along ``dim`` what need not be found out again."""
        if shadow.numel() and not constant(identities, 0) and bool((identities >= 0).any()):
            self.settled[shadow] = True
            self.outlines[shadow] = Outline((dim % shadow.ndim,), identities, tuple(shadow.shape))

    def called(
        self, weight: str, positions: int, rows: int | None, strided: bool = False, share: int | Fraction = 1
    ) -> None:
        """Record a use of a layer: ``positions`` multiply-accumulates for each element of its weight, in each row.

        Args:
            weight: state-dict name of the weight.
            positions: pixels or tokens in a row.
            rows: length of the leading dimension; None for a single example without one.
            strided: whether a convolution has fewer pixels in its output than in its input.
            share: elements that are used, divided by those of the weight.
        """
        if not self.constant and not self.knows_batch:
            self.knows_batch = True
            if rows is None or rows % self.examples:
                self.examples = 1  # the first dimension of the input is no batch
        each = 1 if rows is None else Fraction(rows, 1 if self.constant else self.examples)
        self.calls.append(LayerCall(weight, positions, self.index, strided, _whole(each), _whole(share)))
        self.order.append(weight)

    def freeze(self, tensor: Tensor, reason: str) -> None:
        """Forbid the removal of all channels in ``tensor``; the reason is told together with the module it arose in."""
        shadow = self.shadow(tensor)
        if shadow is not None:
            self.freeze_identities(shadow, reason)
        for name in self.stored.sources(tensor):  # a number made of a weight may have all its channels in it
            for dim, length in enumerate(self.stored.shapes[name]):
                self.freeze_identities(self.identities.of(name, dim, length), reason)

    def freeze_identities(self, identities: Tensor, reason: str) -> None:
        """Forbid the removal of these identities."""
        path, reason = self.module_path[-1], f"{reason}{self.mode}"
        self.identities.freeze(compact(identities), f"{reason} (in {path!r})" if path else reason)

    def chunk(self, run: Tensor, at: set[int], operation: Operation) -> None:
        """Note that a run of channels, shape ``(length,)``, is taken apart at these positions."""
        self.split = self.splits.chunk(run, at, self._place(operation))

    def reshape(self, run: Tensor, shape: tuple[int, ...], operation: Operation) -> None:
        """Note that a run of channels, shape ``(length,)``, is viewed as a grid of ``shape``."""
        self.split = self.splits.reshape(run, shape, self._place(operation))

    def _place(self, operation: Operation) -> str:
        path = self.module_path[-1]
        return f"{short_name(operation)} in {path!r}" if path else short_name(operation)

    def execute(self, operation: Operation, args: tuple, kwargs: dict) -> Any:
        """Run an operation; one that draws numbers leaves the numbers drawn after it as they are for any width."""
        if operation._schema.is_mutable:
            self._remember_parameters(args)
        if drops_out(operation, args):
            return alike(operation, args, kwargs, self.index, self.mode.draws)
        if is_random(operation):
            self.drew = True
            return alike(operation, args, kwargs, self.index, self.mode.draws)
        return self.compute(operation, args, kwargs)

    def _remember_parameters(self, args: tuple) -> None:
        for tensor in tensors_in(args):
            key = id(memory_of(tensor))
            if key in self.parameters and key not in self.written:
                self.written[key] = self.parameters[key].detach().clone()

    def left(self, tensor: Tensor, way: str) -> None:
        """Note that the values of a tensor have been taken out of PyTorch, as a list or an array."""
        self.freeze(tensor, f"its values are taken out as {way!r}")
        self.reach.look_at([tensor])

    def compute(self, operation: Operation, args: tuple, kwargs: dict) -> Any:
        """Run an operation that draws no numbers."""
        return operation(*args, **kwargs)

    def seen(self, index: int, operation: Operation, args: tuple, kwargs: dict, result: Any) -> None:
        """Apply the rule of one operation, and record it if there are channels in it."""
        given, outputs = tensors_in(args, kwargs), tensors_in(result)
        self.constant = all(tensor in self.constants or self.name_of(tensor) is not None for tensor in given)
        for tensor in outputs:
            if self.constant:
                self.constants[tensor] = True
            else:
                self.constants.discard(tensor)
        self.reach.add(index, given, outputs, operation._schema.is_mutable)
        for tensor in outputs if gives_views(operation) else ():
            self.views[tensor] = True
        if self.module_path[-1] in self.relabels:  # what a relabelling does inside is told by its buffer
            self._pass_on(index, Role.OTHER, given, outputs, [])
            return
        if takes_all(operation, given, outputs):
            operation, args, kwargs = torch.ops.aten.alias.default, (given[0],), {}
        name, before = short_name(operation), any(self.shadow(tensor) is not None for tensor in given)
        flowing = [shadow for tensor in given if (shadow := self.shadows.get(tensor, None)) is not None]
        provenances = tuple(map(self.provenances.of, given))
        self.looked = self.looked or name == "_local_scalar_dense"
        self._start_step()
        if gives_numbers(operation) or counts_values(operation, given):
            self._decided(operation, args, given, provenances, result)
        role = self._follow(operation, args, kwargs, result)
        after = [self.shadows.get(tensor, None) for tensor in outputs]
        numbers = (*self.numbers_of(operation, args, kwargs), *self.notes)
        if before or any(shadow is not None for shadow in after):
            if operation._schema.is_mutable and outputs and not self.is_zero_when_pruned(outputs[0]):
                self.overwritten[outputs[0].untyped_storage()] = True
            if name not in COPIES:
                stored = tuple(map(self.name_of, given))
                self._record(name, numbers, provenances, flowing, stored, after)
                self.position += 1
        if role is not Role.PRODUCES and not any(t in self.shadows and not self.stored.sources(t) for t in given):
            self.stored.computes(given, outputs)
        way = (
            None
            if all(shadow is not None for shadow in after)
            else way_of(operation, numbers, before, provenances, args, kwargs)
        )
        step = self.position - 1 if any(tensor in self.shadows for tensor in given) else None
        self.provenances.remember(operation, numbers, provenances, way, step, given, outputs)
        self._pass_on(index, role or Role.OTHER, given, outputs, after)

    def _follow(self, operation: Operation, args: tuple, kwargs: dict, result: Any) -> Role | None:
        """Apply the rule; what it cannot cope with stays as it is, as any operation that nobody understands."""
        self.sizes = sizes_of(operation, args, kwargs)
        try:
            return self.rule_for(operation)(self, operation, args, kwargs, result)
        except (RuntimeError, IndexError, TypeError, AttributeError, KeyError, AssertionError):
            for tensor in tensors_in(args, kwargs):
                self.freeze(tensor, f"{short_name(operation)} could not be followed")
            for tensor in tensors_in(result):
                self.shadows.discard(tensor)
            return None

    def _decided(
        self,
        operation: Operation,
        args: tuple,
        given: list[Tensor],
        provenances: tuple[Provenance, ...],
        result: Any,
    ) -> None:
        """Record what values have decided."""
        ways, shapes = tuple(each.way for each in provenances), tuple(tuple(tensor.shape) for tensor in given)
        answer = tree_map_only(Tensor, torch.clone, args[1] if short_name(operation) == "index" else result)
        self.transcript.decisions.append(Decision(short_name(operation), ways, shapes, answer))

    def _start_step(self) -> None:
        self.decisions: list[bool] = []
        self.notes: list[object] = []
        self.split = None
        self.sizes = ()

    def _record(
        self,
        name: str,
        numbers: tuple[object, ...],
        provenances: tuple[Provenance, ...],
        flowing: list[Tensor],
        stored: tuple[str | None, ...],
        after: list[Tensor | None],
    ) -> None:
        """Record a step, with the outlines of the activations that went in and of the results."""
        given = tuple(self.outline(shadow) for shadow in flowing)
        results = tuple(None if shadow is None else self.outline(shadow) for shadow in after)
        path, decisions = self.module_path[-1], tuple(self.decisions)
        self.transcript.steps.append(
            OpRecord(name, path, numbers, provenances, given, results, decisions, self.split, stored, self.sizes)
        )

    def _pass_on(
        self, index: int, role: Role, given: list[Tensor], outputs: list[Tensor], after: list[Tensor | None]
    ) -> None:
        """Record an operation in the data flow."""
        there = self.outline(after[0]) if after and after[0] is not None else None
        channels = there.along(1) if there is not None and len(there.shape) > 1 else None
        if outputs:
            self.flow.add(index, role, given, outputs, channels)

    def _watch(self, path: str, module: nn.Module) -> None:
        def enter(_module: nn.Module, args: Any) -> None:
            self.module_path.append(path)
            if not path:
                self.examples = num_examples(args)

        def leave(_module: nn.Module, args: tuple, result: Any) -> None:
            self.module_path.pop()
            if path in self.relabels:
                self._relabelled(path, args[0], result)

        self.hooks += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]

    def _relabelled(self, path: str, given: Tensor, result: Tensor) -> None:
        self.paused = True  # hooks run among the model's own operations
        name, channels = f"{path}.source" if path else "source", self.channels(given)
        if name in self.relabel_inputs:
            self.freeze(given, f"{name!r} is used more than once")
            self.freeze(result, f"{name!r} is used more than once")
        source = self.relabels[path].source
        if isinstance(self.relabels[path], ChannelSelect) and not source.is_meta:
            self.identities.freeze(channels[source.cpu()], f"{path!r} takes it: its reader has to let go of it first")
        self.relabel_inputs[name] = channels
        made = self.identities.of(name, 0, result.shape[1])
        self.set_channels(result, made, zeroed=self.is_zero_when_pruned(given))
        if isinstance(self.relabels[path], ChannelSelect):
            self.writers[name, 0] = path
            self._made(result, made)
        self.order.append(name)
        self.paused = False

    def _made(self, output: Tensor, channels: Tensor) -> None:
        """Note that a selection produces channels, as a layer does."""
        self.flow.produces(output, channels)

    def finish(self, outputs: list[Provenance]) -> None:
        """End the transcript, with the provenances of the outputs."""
        self.transcript.outputs += outputs

    def close(self) -> None:
        """Take the hooks off the model again, and undo what it has written into its parameters."""
        for hook in self.hooks:
            hook.remove()
        with without_gradients():
            for parameter, data in self.data:
                if _cdata(parameter) != _cdata(data):
                    parameter.data = data
            for key, before in self.written.items():
                self.parameters[key].copy_(before)


def _cdata(tensor: Tensor) -> int | None:
    """Number of the memory of a tensor; None where it has none of its own."""
    memory = memory_of(tensor)
    return None if memory is None else memory._cdata


def _whole(number: int | Fraction) -> int | Fraction:
    return int(number) if number == int(number) else number


def num_examples(arguments: tuple[Any, ...]) -> int:
    """Number of examples among the arguments of a model: images in a list, or the leading dimension of a tensor."""
    first = arguments[0] if arguments else None
    if isinstance(first, list | tuple) and all(isinstance(image, Tensor) and image.ndim == 3 for image in first):
        return max(1, len(first))
    tensors = tensors_of(arguments)
    return max(1, len(tensors[0])) if tensors and tensors[0].ndim else 1

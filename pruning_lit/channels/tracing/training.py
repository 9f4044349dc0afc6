"""Forward passes in training mode, whose channels are those of the first pass."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from pruning_lit.channels.tracing.identities import Identities
from pruning_lit.channels.tracing.modes import PassMode, still
from pruning_lit.channels.tracing.operations import tensors_of
from pruning_lit.channels.tracing.outputs import Outputs, chosen, settle
from pruning_lit.channels.tracing.passes import failure_of, run, twin_of
from pruning_lit.channels.tracing.randomness import Draws
from pruning_lit.channels.tracing.tracer import Tracer
from pruning_lit.channels.tracing.transcript import Transcript


class FurtherTracer(Tracer):
    """Tracer of a further pass of a model: what it finds is added to what the first one has found.

    Args:
        model: a replica of the model.
        first: the tracer of the first pass.
        mode: of this pass.
    """

    def __init__(self, model: nn.Module, first: Tracer, mode: PassMode) -> None:
        self.first = first
        super().__init__(model, first.rule_for, first.numbers_of, mode)
        self.splits, self.own, self.order = first.splits, first.own, first.order
        self.writers, self.readers = first.writers, first.readers

    def start(self) -> Identities:
        """Begin another transcript, whose identities go on from those of the first."""
        known, first = self.first.identities, self.first.transcript
        self.transcript = Transcript([], first.slots, [], first.own, [])
        return Identities(first.slots, self.transcript.made, known.ties, known.frozen, known.count)

    def close(self) -> None:
        """Take the hooks off, and tie what relabelling modules got to what they got before."""
        super().close()
        known = self.first.identities
        known.count = self.identities.count
        for name, channels in self.relabel_inputs.items():
            before = self.first.relabel_inputs.setdefault(name, channels)
            if before.shape == channels.shape:
                known.tie(before, channels)
            else:
                for each in (before, channels):
                    known.freeze(each, f"{name!r} gets another number of channels{self.mode}")


def follow_training(
    first: Tracer, model: nn.Module, arguments: tuple[Any, ...], outputs: Outputs | None
) -> list[FurtherTracer]:
    """Run ``model`` in training mode, where its modules ask for that, and add what is found to the first tracer.

    Where a pass draws random numbers that may decide on its course, it is run with the least and the greatest of them,
    too: a path that is dropped is one that exists.

    Args:
        first: the tracer of a pass in eval mode.
        model: the model; nothing in it is changed.
        arguments: of the model in training.
        outputs: as for ``trace``.

    Returns:
        The tracers after their passes, none where training is like evaluation. A model that does not run in training,
        because it needs targets, say, is followed up to there; ``Transcript.failure`` says why.
    """
    if not first.transcript.depends_on_mode:
        return []
    passes = [_follow(first, model, arguments, outputs, "any")]
    if passes[0].drew:
        more: tuple[Draws, ...] = ("low", "high")
        passes += [_follow(first, model, passes[0].transcript.arguments, outputs, draws) for draws in more]
    return passes


def _follow(
    first: Tracer, model: nn.Module, arguments: tuple[Any, ...], outputs: Outputs | None, draws: Draws
) -> FurtherTracer:
    one = all(tensor.ndim and len(tensor) == 1 for tensor in tensors_of(arguments))
    tracer = _attempt(first, model, arguments, outputs, draws)
    if tracer.transcript.failure and one:  # norms of one's own that want more than one number a channel
        two = tree_map_only(Tensor, lambda tensor: torch.cat([tensor, tensor]), arguments)
        again = _attempt(first, model, two, outputs, draws)
        return tracer if again.transcript.failure else again
    return tracer


def _attempt(
    first: Tracer, model: nn.Module, arguments: tuple[Any, ...], outputs: Outputs | None, draws: Draws
) -> FurtherTracer:
    twin = twin_of(model)
    tracer = FurtherTracer(twin, first, PassMode(True, draws))
    tracer.transcript.mode, tracer.transcript.arguments = tracer.mode, arguments
    result: Any = None
    try:
        with still(model):  # what is run through functions that know it leaves its statistics alone
            result = run(tracer, twin, arguments)
    except Exception as error:  # whatever somebody's forward raises
        tracer.transcript.failure = failure_of(tracer, error)
    finally:
        tracer.close()
    if outputs is not None and tracer.transcript.failure is None:
        try:
            result = chosen(result, outputs)
        except Exception:  # training has another result: all of it matters
            outputs = None
    settle(tracer, result)
    return tracer

"""Literals: numbers of channels by which a model takes tensors apart, and the attributes in which modules keep them.

A rehearsal goes on behind a step at which a model asks for a number of channels that is no longer there, and so finds
all of them at once. Only what is proven to come from an attribute is ever rewritten, see ``NumberSources``.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn

from pruning_lit.channels.surgery.number_sources import Asked, Changed, Number, NumberSources
from pruning_lit.channels.surgery.rehearsal_tracers import LITERAL
from pruning_lit.channels.tracing.graph import WidthNumber
from pruning_lit.channels.tracing.identities import Identities
from pruning_lit.channels.tracing.outputs import Outputs
from pruning_lit.channels.tracing.splits import Chunk, Reshape
from pruning_lit.channels.tracing.transcript import OpRecord, Transcript

Freeze = Callable[[Tensor, str], object]


class Literals:
    """Hypotheses on where the numbers come from by which a model takes its channels apart.

    Args:
        model: the model that was traced.
        outputs: which of its results matter.
    """

    def __init__(self, model: nn.Module, outputs: Outputs | None) -> None:
        self.model, self.sources = model, NumberSources(model, outputs)
        self.rulers: dict[Number, list[Tensor]] = {}  # the runs of channels whose length a number is
        self.behind: dict[int, set[Number]] = defaultdict(set)  # by a step: the numbers that it asks for
        self.tried: set[int] = set()

    def apply(self, identities: Identities) -> None:
        """Tie runs of channels whose length is one and the same number."""
        for first, *others in self.rulers.values():
            for other in others:
                identities.tie(first, other)

    def numbers(self) -> tuple[WidthNumber, ...]:
        """The numbers that are understood."""
        return tuple(WidthNumber(*number, runs[0]) for number, runs in self.rulers.items())

    def explore(self, transcripts: Sequence[Transcript]) -> None:
        """Look for the numbers behind parts without a common measure, which cannot be shares of the width."""
        for transcript in transcripts:
            steps = [Asked(transcript, position) for position in range(len(transcript.steps))]
            fresh = [asked for asked in steps if _is_uneven(asked.step) and asked.key not in self.tried]
            self.tried |= {asked.key for asked in fresh}
            self._not_understood(fresh)

    def learn(self, steps: Sequence[Asked], removed: Tensor, freeze: Freeze) -> bool:
        """Change the hypotheses after a rehearsal; False where there is nothing to be changed.

        Args:
            steps: those of one pass at which numbers of channels were asked for that are no longer there.
            removed: whether each identity was removed in the rehearsal.
            freeze: protects channels, for a reason.
        """
        fresh = [asked for asked in steps if asked.key not in self.tried]
        again = {asked.key for asked in steps} - {asked.key for asked in fresh}
        fresh += self._kin(fresh)
        self.tried |= {asked.key for asked in fresh}
        accepted = {asked.key for asked in fresh} - {asked.key for asked in self._not_understood(fresh)}
        changed, given_up = bool(accepted), set[int]()
        for asked in steps:
            split = asked.step.split
            if asked.key in accepted or (split is not None and id(split) in given_up):  # one run, in several steps
                continue
            given_up.add(id(split))
            changed |= self._give_up(asked.step, asked.key in again, removed, freeze)
        return changed

    def _kin(self, fresh: list[Asked]) -> list[Asked]:
        """Steps of the same kind in modules of the same class, which have not been tried yet."""
        kinds = {self._kind(asked.step) for asked in fresh}
        transcripts = {id(asked.transcript): asked.transcript for asked in fresh}.values()
        everywhere = [Asked(each, position) for each in transcripts for position in range(len(each.steps))]
        known = self.tried | {asked.key for asked in fresh}
        untried = [asked for asked in everywhere if asked.step.split is not None and asked.key not in known]
        return [asked for asked in untried if self._kind(asked.step) in kinds]

    def _kind(self, step: OpRecord) -> tuple[str, type[nn.Module]]:
        return step.operation, type(self.model.get_submodule(step.module))

    def _give_up(self, step: OpRecord, again: bool, removed: Tensor, freeze: Freeze) -> bool:
        """Let go of the numbers that have not helped, and protect what a step asks for."""
        behind = self.behind[id(step)]
        wrong = [number for number in self.rulers if again and (number[0] == step.module or number in behind)]
        for number in wrong:
            self.sources.refused.add(number)
            del self.rulers[number]
        if step.split is not None and bool(removed[step.split.identities].any()):
            step.split.ruled = False
            if step.split.next_assumption():
                return True
        for concerned in step.identities():
            if bool(removed[concerned].any()):
                freeze(concerned, f"{LITERAL} ({step.place})")
                return True
        return bool(wrong)

    def _not_understood(self, fresh: list[Asked]) -> list[Asked]:
        """Take the sizes of steps of one pass for numbers of modules; the steps of which none are found."""
        for look in (self.sources.equal, self.sources.related):
            sources = look(fresh)
            fresh = [asked for asked in fresh if not self._accept(asked.step, sources.get(asked.position, {}))]
        return fresh

    def _accept(self, step: OpRecord, sources: Mapping[Number, Changed]) -> bool:
        """Take the sizes of a step for these numbers; False where they are not understood so."""
        if not sources:
            return False
        found: dict[Number, list[Tensor]] = {}
        governed: set[int] = set()
        for number, changed in sources.items():
            found[number] = []
            for at, now in changed.items():
                runs = counted_runs(step, at, self.sources.value(number), now)
                found[number] += runs
                governed |= {at} if runs else set()
        for number in [number for number, runs in found.items() if not runs]:
            value, changed = self.sources.value(number), sources[number]
            sizes = [step.sizes[at] for at in changed if at < len(step.sizes)]
            if is_whole(step, value, sizes, governed):
                found[number] = [step.split.identities] if step.split is not None else []
                continue
            for at, now in changed.items():
                runs = sharing_runs(step, at, value, now)
                found[number] += runs
                governed |= {at} if runs else set()
            if not found[number]:
                return False
        if any(len(run) != self.sources.value(number) for number, runs in found.items() for run in runs):
            return False
        if isinstance(step.split, Reshape):
            side = _choose_side(step, governed)
            found = {number: runs for number, runs in found.items() if side in sources[number]}
        for number, runs in found.items():
            self.rulers.setdefault(number, []).extend(runs)
            self.behind[id(step)].add(number)
        if isinstance(step.split, Chunk):
            step.split.ruled = is_free(step, governed)
        return bool(found)


def _choose_side(step: OpRecord, governed: set[int]) -> int | None:
    """Let one side of a grid change, the likeliest whose length is a number of the module; its dimension."""
    split, outline = step.split, step.results[0]
    assert isinstance(split, Reshape)
    assert outline is not None
    for assumption, side in enumerate(split.free):
        if outline.dims[side] in governed:
            split.assumption = assumption
            return outline.dims[side]
    return None


def _is_uneven(step: OpRecord) -> bool:
    return isinstance(step.split, Chunk) and bool(step.split.at) and step.split.measure == 1 and bool(step.sizes)


def runs_of(step: OpRecord, at: int) -> list[Tensor]:
    """The runs of channels, shape ``(length,)`` each, whose length is the size number ``at`` of a step."""
    if step.operation == "view":
        outline = step.results[0]
        if outline is None or at not in outline.dims:
            return []
        side = outline.dims.index(at)
        return [outline.identities.movedim(side, 0).reshape(outline.shape[at], -1)[:, 0]]
    if step.split is None:
        return []
    run = step.split.identities
    if step.operation in ("slice", "narrow"):
        return [run[: step.sizes[at]]]
    if step.operation == "split":
        parts = run.split(step.sizes[0])
        return [part for part in parts if len(part) == step.sizes[0]]
    return [run.split(step.sizes)[at]]


def counted_runs(step: OpRecord, at: int, value: int, now: int) -> list[Tensor]:
    """Runs of as many channels as a number says, where the size number ``at`` is that number or a multiple of it.

    Args:
        step: the step.
        at: which of its sizes.
        value: the number.
        now: that size where the number is one less.
    """
    if at >= len(step.sizes) or step.sizes[at] < value or now * value != step.sizes[at] * (value - 1):
        return []
    return [part for run in runs_of(step, at) for part in run.split(value)]


def sharing_runs(step: OpRecord, at: int, value: int, now: int) -> list[Tensor]:
    """Runs that are a share of a number (``self.width // 2``), each repeated up to that; else as ``counted_runs``."""
    if at >= len(step.sizes) or not 0 < step.sizes[at] < value or value % step.sizes[at]:
        return []
    share = value // step.sizes[at]
    return [run.repeat(share) for run in runs_of(step, at)] if now == (value - 1) // share else []


def is_whole(step: OpRecord, value: int, sizes: list[int], governed: set[int]) -> bool:
    """True where a number is the length of the whole run, of which a step asks for a share, or for the rest.

    Args:
        step: the step.
        value: the number.
        sizes: of the step, those that change with it.
        governed: which of its sizes are numbers themselves.
    """
    if step.split is None or len(step.split.identities) != value:
        return False
    if step.operation == "split_with_sizes" and len(governed) == len(step.sizes) - 1:
        return True
    return math.gcd(value, *sizes) > 1 and all(size and value % size == 0 for size in sizes)


def is_free(step: OpRecord, governed: set[int]) -> bool:
    """True where each part of a run may have a length of its own: all but one are asked for by numbers of their own."""
    if step.operation in ("slice", "narrow", "split"):
        return bool(governed)
    return len(governed) >= len(step.sizes) - 1

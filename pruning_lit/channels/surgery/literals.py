"""Literals: numbers of channels by which a model takes tensors apart, and the attributes in which modules keep them.

A rehearsal goes on behind a step at which a model asks for a number of channels that is no longer there, and so finds
all of them at once. Which attribute such a number comes from is found by changing one, in a copy without data, and
looking which steps ask for something else then; only what is proven so is ever rewritten.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from pruning_lit.channels.surgery.numbers import numbers_of_module
from pruning_lit.channels.surgery.rehearsal import sizes_with
from pruning_lit.channels.surgery.rehearsal_tracers import LITERAL
from pruning_lit.channels.tracing.graph import WidthNumber
from pruning_lit.channels.tracing.identities import Identities
from pruning_lit.channels.tracing.outputs import Outputs
from pruning_lit.channels.tracing.splits import Chunk, Reshape
from pruning_lit.channels.tracing.transcript import OpRecord, Transcript

Number = tuple[str, str, int]  # path of a module, name of its attribute, position in that
Freeze = Callable[[Tensor, str], object]


@dataclass(frozen=True)
class Asked:
    """A step at which a number of channels is asked for, in one of the passes."""

    transcript: Transcript
    position: int

    @property
    def key(self) -> int:
        """Identity of a step, also where a pass is rehearsed in another mode."""
        return id(self.step)

    @property
    def step(self) -> OpRecord:
        """The step."""
        return self.transcript.steps[self.position]


class Literals:
    """Hypotheses on where the numbers come from by which a model takes its channels apart.

    Args:
        model: the model that was traced.
        outputs: which of its results matter.
    """

    def __init__(self, model: nn.Module, outputs: Outputs | None) -> None:
        self.model, self.outputs = model, outputs
        self.rulers: dict[Number, list[Tensor]] = {}  # the runs of channels whose length a number is
        self.refused: set[Number] = set()
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
            sources = self._sources(fresh)
            for asked in fresh:
                self._accept(asked.step, sources.get(asked.position, {}))

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
        sources = self._sources(fresh)
        accepted = {asked.key for asked in fresh if self._accept(asked.step, sources.get(asked.position, {}))}
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
        wrong = [number for number in self.rulers if again and number[0] == step.module]
        for number in wrong:
            self.refused.add(number)
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

    def _sources(self, fresh: list[Asked]) -> dict[int, dict[Number, list[int]]]:
        """For each of these steps the numbers on which it depends, and which of its sizes they change."""
        if not fresh:
            return {}
        transcript = fresh[0].transcript
        wanted: dict[str, set[int]] = defaultdict(set)
        for asked in fresh:
            wanted[asked.step.module] |= lengths_of(asked.step)
        asked_for = {asked.step.sizes for asked in fresh}
        candidates: list[list[list[Number]]] = []  # by module: what is changed at once, of which one thing at a time
        for path, lengths in wanted.items():
            candidates.append([])
            for name, values in numbers_of_module(self.model.get_submodule(path)).items():
                numbers = [(path, name, at) for at, value in enumerate(values) if value > 1 and value in lengths]
                numbers = [number for number in numbers if number not in self.refused]
                whole = tuple(values) in asked_for  # the very list of sizes: each number is that of one size
                candidates[-1] += [numbers] if whole and numbers else [[number] for number in numbers]
        changes: dict[int, dict[Number, list[int]]] = defaultdict(dict)
        for turn in range(max(map(len, candidates), default=0)):
            batch = [each[turn] for each in candidates if len(each) > turn]
            for number, position, changed in self._probe(transcript, batch):
                changes[position][number] = changed
        return changes

    def _probe(self, transcript: Transcript, batch: list[list[Number]]) -> list[tuple[Number, int, list[int]]]:
        """Change numbers of several modules: which number, which step, which of its sizes change with it."""
        values = {number: self._value(number) - 1 for numbers in batch for number in numbers}
        asked, completed = sizes_with(values, self.model, transcript, self.outputs)
        if not completed:
            return [each for part in self._parts(batch) for each in self._probe(transcript, part)]
        by_module = {numbers[0][0]: numbers for numbers in batch}
        found = []
        for position, sizes in asked.items():
            step = transcript.steps[position]
            pairs = zip(step.sizes, sizes, strict=False)
            changed = [at for at, (before, now) in enumerate(pairs) if before != now]
            numbers = by_module.get(step.module, [])
            if len(numbers) == 1:
                found.append((numbers[0], position, changed))
            else:
                found += [(number, position, [number[2]]) for number in numbers if number[2] in changed]
        return found

    def _parts(self, batch: list[list[Number]]) -> list[list[list[Number]]]:
        """Parts of a batch that fails, to be tried alone: one kind of number each, of one kind a first one."""
        kinds: dict[tuple[type[nn.Module], str], list[list[Number]]] = defaultdict(list)
        for numbers in batch:
            path, name, _ = numbers[0]
            kinds[type(self.model.get_submodule(path)), name].append(numbers)
        if len(kinds) > 1:
            return list(kinds.values())
        return [batch[:1]] if len(batch) > 1 else []  # what it says in one module it says in all of its class

    def _value(self, number: Number) -> int:
        path, name, at = number
        return numbers_of_module(self.model.get_submodule(path))[name][at]

    def _accept(self, step: OpRecord, sources: Mapping[Number, list[int]]) -> bool:
        """Take the sizes of a step for these numbers of its module; False where they are not understood so."""
        if not sources:
            return False
        found: dict[Number, list[Tensor]] = {}
        governed: set[int] = set()
        for number, changed in sources.items():
            value = self._value(number)
            exact = [at for at in changed if at < len(step.sizes) and step.sizes[at] == value]
            runs = [run for at in exact for run in runs_of(step, at)]
            governed |= set(exact)
            if any(len(run) != value for run in runs):
                return False
            found[number] = runs
        for number in [number for number, runs in found.items() if not runs]:
            sizes = [step.sizes[at] for at in sources[number] if at < len(step.sizes)]
            if not is_whole(step, self._value(number), sizes, governed):
                return False
            found[number] = [step.split.identities] if step.split is not None else []
        if isinstance(step.split, Reshape):
            side = _choose_side(step, governed)
            found = {number: runs for number, runs in found.items() if side in sources[number]}
        for number, runs in found.items():
            self.rulers.setdefault(number, []).extend(runs)
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


def lengths_of(step: OpRecord) -> set[int]:
    """The numbers of channels that a step asks for, and that of the run that it takes apart."""
    sizes = set(step.sizes)
    if step.operation == "view":  # others of its sizes are numbers of pixels
        outline = step.results[0]
        sizes = {step.sizes[dim] for dim in outline.dims if dim < len(step.sizes)} if outline is not None else set()
    return sizes | ({len(step.split.identities)} if step.split is not None else set())


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

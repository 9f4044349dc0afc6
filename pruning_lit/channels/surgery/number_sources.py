"""Sources of the numbers by which a model takes channels apart: attributes of its modules.

Which attribute a number comes from is found by changing one, in a copy without data, and looking which steps ask for
other sizes then.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from pruning_lit.channels.surgery.numbers import numbers_of_module
from pruning_lit.channels.surgery.rehearsal import sizes_with
from pruning_lit.channels.tracing.outputs import Outputs
from pruning_lit.channels.tracing.transcript import OpRecord, Transcript

Number = tuple[str, str, int]  # path of a module, name of its attribute, position in that
#: Position of a size among those of a step → what is asked for there, the number being one less.
Changed = dict[int, int]
Sources = dict[int, dict[Number, Changed]]  # by the position of a step in its transcript


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


class NumberSources:
    """Trials of a model with other numbers in its modules.

    Args:
        model: the model that was traced.
        outputs: which of its results matter.
    """

    def __init__(self, model: nn.Module, outputs: Outputs | None) -> None:
        self.model, self.outputs = model, outputs
        self.refused: set[Number] = set()

    def value(self, number: Number) -> int:
        """The number, as the model has it."""
        path, name, at = number
        return self._numbers(path)[name][at]

    def equal(self, asked: Sequence[Asked]) -> Sources:
        """Numbers of their own modules that steps of one pass ask for as they are."""
        if not asked:
            return {}
        transcript = asked[0].transcript
        wanted: dict[str, set[int]] = defaultdict(set)
        for each in asked:
            wanted[each.step.module] |= lengths_of(each.step)
        asked_for = {each.step.sizes for each in asked}
        candidates: list[list[list[Number]]] = []  # by module: what is changed at once, of which one thing at a time
        for path, lengths in wanted.items():
            candidates.append([])
            for name, values in self._numbers(path).items():
                numbers = [(path, name, at) for at, value in enumerate(values) if value > 1 and value in lengths]
                numbers = [number for number in numbers if number not in self.refused]
                whole = tuple(values) in asked_for  # the very list of sizes: each number is that of one size
                candidates[-1] += [numbers] if whole and numbers else [[number] for number in numbers]
        sources: Sources = defaultdict(dict)
        for turn in range(max(map(len, candidates), default=0)):
            batch = [each[turn] for each in candidates if len(each) > turn]
            for tried, position, changed in self._probe(transcript, batch):
                numbers = tried.get(transcript.steps[position].module, [])
                for number in numbers:
                    if len(numbers) == 1:
                        sources[position][number] = changed
                    elif number[2] in changed:
                        sources[position][number] = {number[2]: changed[number[2]]}
        return sources

    def related(self, asked: Sequence[Asked]) -> Sources:
        """Numbers of which steps ask for a multiple or a share, and those of other modules, found as in ``equal``."""
        kinds: dict[tuple[type[nn.Module], str, int], dict[Number, None]] = defaultdict(dict)
        for each in asked:
            for number in self._related(each.step):
                path, name, at = number
                kinds[type(self.model.get_submodule(path)), name, at][number] = None
        sources: Sources = defaultdict(dict)
        for numbers in kinds.values():
            for tried, position, changed in self._probe(asked[0].transcript, [[number] for number in numbers]):
                nearest = _nearest(asked[0].transcript.steps[position].module, tried)
                if nearest is not None:
                    sources[position][tried[nearest][0]] = changed
        return sources

    def _related(self, step: OpRecord) -> Iterator[Number]:
        lengths = {length for length in lengths_of(step) if length > 1}
        for path, name, at, value in self._around(step.module):
            if value < 2 or (path, name, at) in self.refused or (path == step.module and value in lengths):
                continue
            if value in lengths or (
                path == step.module and any(length % value == 0 or value % length == 0 for length in lengths)
            ):
                yield path, name, at

    def _around(self, path: str) -> Iterator[tuple[str, str, int, int]]:
        """The numbers of a module, of those that it is in, and of its children, but for PyTorch's own layers."""
        module, parts = self.model.get_submodule(path), path.split(".") if path else []
        inner = [name for name, child in module.named_children() if not type(child).__module__.startswith("torch.nn.")]
        outer = [".".join(parts[:end]) for end in reversed(range(len(parts)))]
        for each in (path, *(f"{path}.{name}".lstrip(".") for name in inner), *outer):
            for name, values in self._numbers(each).items():
                for at, value in enumerate(values):
                    yield each, name, at, value

    def _probe(
        self, transcript: Transcript, batch: list[list[Number]]
    ) -> Iterator[tuple[dict[str, list[Number]], int, Changed]]:
        """Change numbers of several modules: by module what was changed, and for each step that asks for other sizes.

        Yields:
            The numbers that were changed, by module; position of a step; and its sizes that change with them.
        """
        values = {number: self.value(number) - 1 for numbers in batch for number in numbers}
        asked, completed = sizes_with(values, self.model, transcript, self.outputs)
        if not completed:
            for part in self._parts(batch):
                yield from self._probe(transcript, part)
            return
        tried = {numbers[0][0]: numbers for numbers in batch}
        for position, sizes in asked.items():
            pairs = zip(transcript.steps[position].sizes, sizes, strict=False)
            yield tried, position, {at: now for at, (before, now) in enumerate(pairs) if before != now}

    def _parts(self, batch: list[list[Number]]) -> list[list[list[Number]]]:
        """Parts of a batch that fails, to be tried alone: one kind of number each, of one kind a first one."""
        kinds: dict[tuple[type[nn.Module], str], list[list[Number]]] = defaultdict(list)
        for numbers in batch:
            path, name, _ = numbers[0]
            kinds[type(self.model.get_submodule(path)), name].append(numbers)
        if len(kinds) > 1:
            return list(kinds.values())
        return [batch[:1]] if len(batch) > 1 else []  # what it says in one module it says in all of its class

    def _numbers(self, path: str) -> dict[str, list[int]]:
        return numbers_of_module(self.model.get_submodule(path))


def _nearest(path: str, tried: dict[str, list[Number]]) -> str | None:
    """The nearest of the modules whose numbers were changed: that at ``path``, a child, or the innermost around it."""
    around = [each for each in tried if each == path or not each or path.startswith(f"{each}.")]
    children = [each for each in tried if each.rpartition(".")[0] == path and each != path]
    best = [path] if path in tried else children[:1] or sorted(around, key=len)[-1:]
    return best[0] if best else None


def lengths_of(step: OpRecord) -> set[int]:
    """The numbers of channels that a step asks for, and that of the run that it takes apart."""
    sizes = set(step.sizes)
    if step.operation == "view":  # others of its sizes are numbers of pixels
        outline = step.results[0]
        sizes = {step.sizes[dim] for dim in outline.dims if dim < len(step.sizes)} if outline is not None else set()
    return sizes | ({len(step.split.identities)} if step.split is not None else set())

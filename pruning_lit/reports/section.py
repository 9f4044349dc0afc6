"""Sections that a method or a criterion adds to the report of a run: text, plain data, and a picture."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, runtime_checkable

from pruning_lit.records.cut import CutRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pruning_lit.tasks import Task

Pair = tuple[Any, Any]  # of the dense network and the pruned one


@runtime_checkable
class Section(Protocol):
    """A section of the report; a phase class names those that its cuts may have something to say for.

    Attributes:
        name: key of its data in ``report.json``, and the file of its picture without ``.png``.
    """

    name: ClassVar[str]

    @classmethod
    def of(cls, cuts: Sequence[CutRecord]) -> Self | None:
        """The section of a run with these cuts, in order; None where they say nothing for it."""
        ...

    def data(self) -> Any:
        """Plain data for ``report.json``."""
        ...

    def markdown(self, picture: str | None) -> str:
        """The text, with its heading; ``picture`` is the file of the picture, relative to the text, if there is one."""
        ...

    def figure(self) -> "Figure | None":
        """The picture; None where there is nothing to draw."""
        ...


class TaskSection(Section, Protocol):
    """A section on what is learned, of a class that the task names (``Task.section``)."""

    @classmethod
    def of(  # type: ignore[override]
        cls, task: "Task", data: Any, nets: Pair, graphs: Pair, metrics: Pair, trained: bool
    ) -> Self:
        """The section.

        Args:
            task: what is learned.
            data: its data module.
            nets: the dense network and the pruned one, on one device.
            graphs: of their views.
            metrics: of both, by name; None where the dense network was never trained.
            trained: whether ``nets`` has the dense network as it was trained.
        """
        ...


def sections_of(kinds: Sequence[type[Section]], cuts: Sequence[CutRecord]) -> list[Section]:
    """The sections of these kinds that have something to say, each kind once."""
    made = (kind.of(cuts) for kind in dict.fromkeys(kinds))
    return [section for section in made if section is not None]

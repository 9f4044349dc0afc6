import pytest
import torch
from torch import nn

from pruning_lit.channels import trace
from pruning_lit.reports.cuts import group_records, notes_on
from pruning_lit.reports.plots import widths_figure
from tests.reports.cut import cut


class Residual(nn.Module):
    """A stream that ``stem`` and ``branch`` make together."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inside = nn.Conv2d(1, 4, 1), nn.Conv2d(4, 3, 1)
        self.branch, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)

    def forward(self, x):
        x = self.stem(x)
        return self.head(x + self.branch(self.inside(x).relu()))


@pytest.fixture(scope="module")
def graph():
    return trace(Residual(), torch.zeros(1, 1, 4, 4))


def made(gone=None, notes=()):
    groups = [{"name": name, "size": 4, "protected": None} for name in ("stem", "inside")]
    groups.append({"name": "head", "size": 2, "protected": "excluded by sparsity.exclude"})
    return cut(gone=gone, groups=groups, notes=notes)


def positions(records):
    return {each.name: each.positions for each in records}


def test_positions_are_those_of_the_dense_network_after_any_number_of_cuts(graph):
    first = {"stem.weight": [1], "branch.weight": [1], "inside.weight": [2]}
    records = group_records(graph, [made(first), made({"stem.weight": [0], "branch.weight": [0]})])
    assert positions(records) == {"stem": [2, 3], "inside": [0, 1], "head": [0, 1]}
    assert [each.kept for each in records] == [2, 2, 2]


def test_the_first_cut_says_what_was_excluded(graph):
    assert {each.name: each.protected for each in group_records(graph, [made()])} == {
        "stem": None,
        "inside": None,
        "head": "excluded by sparsity.exclude",
    }
    assert {each.name: each.protected for each in group_records(graph, [])} == {
        group.name: group.protected for group in graph.groups
    }


def test_a_removed_branch_has_kept_nothing_and_is_in_the_picture(graph):
    first = {"stem.weight": [1], "inside.weight": [0, 1, 2]}
    records = group_records(graph, [made(first), made({"stem.weight": [0, 2]})])
    assert positions(records) == {"stem": [2], "inside": [], "head": [0, 1]}
    labels = [text.get_text() for text in widths_figure(records).axes[0].texts]
    assert labels == ["1 of 4", "0 of 3", "2"]


def test_a_group_whose_first_layer_has_gone_is_found_by_the_others_that_make_it(graph):
    cuts = [made({"stem.weight": [1], "branch.weight": [1]}), made({"branch.weight": [0]})]
    assert positions(group_records(graph, cuts))["stem"] == [2, 3]


def test_notes_of_several_cuts_say_which_one_they_are_about():
    first, second, third = (made(notes=notes) for notes in (["Floors."], [], ["Rounding.", "More."]))
    assert notes_on([]) == []
    assert notes_on([first]) == ["Floors."]
    assert notes_on([first, second, third]) == [
        "Cut 1 of 3: Floors.", "Cut 3 of 3: Rounding.", "Cut 3 of 3: More.",
    ]  # fmt: skip

"""What cannot be done is refused by name before anything changes."""

import copy

import pytest
import torch
from torch import nn

from pruning_lit.channels import ChannelGraph, cost, mask, narrow, trace
from tests.channels.constructions import Residual

IMAGE = torch.zeros(1, 3, 6, 6)


@pytest.fixture
def net() -> Residual:
    torch.manual_seed(0)
    return Residual()


def state(net: nn.Module) -> dict:
    return {
        "tensors": {name: (id(tensor), tensor.clone()) for name, tensor in net.state_dict(keep_vars=True).items()},
        "modules": repr(net),
        "training": [module.training for module in net.modules()],
        "hooks": [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in net.modules()],
    }


def require_untouched(net: nn.Module, before: dict) -> None:
    now = state(net)
    assert now["tensors"].keys() == before["tensors"].keys()
    for name, (identity, values) in before["tensors"].items():
        assert now["tensors"][name][0] == identity
        assert torch.equal(now["tensors"][name][1], values)
    assert {key: now[key] for key in ("modules", "training", "hooks")} == {
        key: before[key] for key in ("modules", "training", "hooks")
    }


@pytest.mark.parametrize("cut", [narrow, mask])
@pytest.mark.parametrize(
    ("kept", "sentence"),
    [
        ({"nobody": [0]}, "no channel group is called 'nobody'; the groups are"),
        ({"one": [0, 5]}, r"group 'one' has 5 channels \(0…4\); kept must list ascending positions, got \[0, 5\]"),
        ({"one": [-1, 2]}, r"kept must list ascending positions, got \[-1, 2\]"),
        ({"one": []}, "group 'one': no channel is kept, a layer cannot be emptied"),
        ({"one": [1, 1, 2]}, r"kept must list ascending positions, got \[1, 1, 2\]"),
        ({"one": [3, 1]}, r"kept must list ascending positions, got \[3, 1\]"),
        ({"one": [0.5, 1]}, r"kept must list ascending positions, got \[0.5, 1\]"),
        ({"one": ["a"]}, r"kept must list ascending positions, got \['a'\]"),
        ({"one": 3}, "group 'one': kept must be a list of positions, got 3"),
        ({"first": [0, 1], "classify": [0]}, "group 'classify' is protected: it leaves the model"),
    ],
)
def test_an_impossible_choice_is_refused_and_the_model_untouched(net, cut, kept, sentence):
    graph = trace(net, IMAGE)
    before = state(net)
    with pytest.raises(ValueError, match=sentence) as refusal:
        cut(net, graph, kept)
    assert "\n" not in str(refusal.value)
    require_untouched(net, before)


@pytest.mark.parametrize(
    "kept", [{"nobody": [0]}, {"one": [1, 1]}, {"one": range(9)}, {"classify": [0]}, {"one": 3}, [1, 2]]
)
def test_what_cannot_be_cut_is_not_counted_either(net, kept):
    graph = trace(net, IMAGE)
    for refuse in (lambda: cost(graph, kept), lambda: narrow(net, graph, kept), lambda: mask(net, graph, kept)):
        with pytest.raises(ValueError, match=r"no channel group is called|kept must|is protected"):
            refuse()


def test_booleans_are_no_positions(net):
    with pytest.raises(ValueError, match="kept must list ascending positions"):
        narrow(net, trace(net, IMAGE), {"one": [False, True]})


@pytest.mark.parametrize(
    ("example", "sentence"),
    [
        (
            torch.zeros(1, 4, 6, 6),
            r"the model does not run on the example input \(1, 4, 6, 6\): .*channels.* \(in 'first'\)",
        ),
        (torch.zeros(3, 6), r"the model does not run on the example input \(3, 6\): .* \(in 'first'\)"),
        (torch.zeros(1, 3, 6, 6, dtype=torch.int64), r"the model does not run on the example input \(1, 3, 6, 6\)"),
        ((IMAGE, IMAGE), r"the model does not run on the example input \(1, 3, 6, 6\), \(1, 3, 6, 6\): .*"),
        ("image", r"example_input must be a tensor or a tuple of arguments, got 'image'"),
    ],
)
def test_an_example_that_does_not_fit_is_refused_and_the_model_untouched(net, example, sentence):
    before = state(net)
    with pytest.raises(ValueError, match=sentence) as refusal:
        trace(net, example)
    assert "\n" not in str(refusal.value)
    require_untouched(net, before)


@pytest.mark.at_once(1)
@pytest.mark.parametrize("compiled", [torch.jit.script, lambda net: torch.jit.trace(net, IMAGE), torch.compile])
@pytest.mark.parametrize("inside", [False, True])
def test_a_compiled_network_is_refused_in_a_sentence(net, compiled, inside):
    given = compiled(net.eval())
    with pytest.raises(ValueError, match=r"is compiled .* give the module that it was made from"):
        trace(nn.Sequential(given) if inside else given, IMAGE)


def test_a_layer_without_weights_is_refused_until_it_has_some():
    net = nn.Sequential(nn.LazyConv2d(4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1))
    with pytest.raises(ValueError, match=r"^'0' \(LazyConv2d\) has no weights yet: run the model once beforehand$"):
        trace(net, IMAGE)
    net(IMAGE)
    assert [group.protected for group in trace(net, IMAGE).groups] == [None, "it leaves the model"]


def test_what_is_no_module_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match=r"expected a torch.nn.Module, got function"):
        trace(lambda image: image, IMAGE)


def test_an_exported_module_is_traced_as_any_other(net):
    exported = torch.export.export(net.eval(), (IMAGE,)).module()
    assert [group.size for group in trace(exported, IMAGE).groups] == [group.size for group in trace(net, IMAGE).groups]


def test_a_graph_prints_as_a_table_that_fits_a_screen(net):
    text = str(trace(net, IMAGE))
    assert all(group.name in text for group in trace(net, IMAGE).groups)
    layers = [nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()) for _ in range(60)]
    graph = trace(nn.Sequential(*layers), IMAGE)
    lines = str(graph).splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 100
    assert lines[-1] == "59 of 60 groups may lose channels, 177 of 180 channels"
    assert "… 40 more …" in lines
    assert len(repr(graph)) < 100
    assert (
        repr(graph.groups[1]) == "ChannelGroup(name='1.0', size=3, writers=('1.0',), readers=('2.0',), protected=None)"
    )


def test_a_list_of_images_is_one_argument(net):
    class OfLists(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, images):
            return self.net(torch.stack(images))

    assert trace(OfLists(), [IMAGE[0]])["net.one"].protected is None


class Failing(Residual):
    def between(self, x):
        raise KeyError("scale")


def test_a_model_whose_forward_fails_is_refused_with_the_reason():
    net = Failing()
    before = state(net)
    with pytest.raises(ValueError, match=r"the model does not run on the example input \(1, 3, 6, 6\): 'scale'"):
        trace(net, IMAGE)
    require_untouched(net, before)


def test_a_model_without_parameters_has_no_groups():
    assert trace(nn.Sequential(nn.ReLU()), IMAGE).groups == ()


def test_a_graph_of_another_model_is_refused(net):
    other = trace(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3)), IMAGE)
    before = state(net)
    with pytest.raises(
        ValueError, match=r"the model is not the one that was traced: it has no tensor called '0.weight'"
    ):
        narrow(net, other, {"0": [1]})
    require_untouched(net, before)


def test_a_graph_from_before_a_cut_is_refused(net):
    graph: ChannelGraph = trace(net, IMAGE)
    narrow(net, graph, {"one": [0, 2]})
    before = state(net)
    with pytest.raises(ValueError, match=r"'one.weight' is .* but was .* when it was traced; trace it again"):
        narrow(net, graph, {"one": [0, 2]})
    require_untouched(net, before)
    narrow(copy.deepcopy(net), trace(net, IMAGE), {"one": [1]})

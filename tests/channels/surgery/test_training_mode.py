"""What a network does in training only, and which of its results matter."""

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import StochasticDepth

from pruning_lit.channels import cost, mask, narrow, trace, verify
from tests.channels import modes
from tests.channels.chance import random_kept, randomise
from tests.channels.constructions import Built, conv
from tests.channels.modes import Slots

IMAGE = torch.zeros(1, 3, 6, 6)


class NeedsTargets(Built):
    """Computes its loss itself, and an auxiliary one, in training."""

    def build(self):
        self.aux = conv(8, 4)

    def forward(self, image, targets=None):
        inner = self.norm(self.first(image)).relu()
        if self.training and targets is None:
            raise ValueError("targets should not be None in training")
        classes = self.classify(self.last(inner).relu().mean((2, 3)))
        if not self.training:
            return classes
        return F.cross_entropy(classes, targets) + F.cross_entropy(self.aux(inner).mean((2, 3)), targets)


class NotThree(Built):
    """Does something else to three channels, in training: no probe with other widths can know."""

    def between(self, x: Tensor) -> Tensor:
        return x.relu() if x.shape[1] != 3 or not self.training else x.relu() * 2


class Detector(Built):
    """Returns, beside the classes, a feature map and what is computed from it."""

    def build(self):
        self.extra = conv(8, 5)

    def forward(self, image):
        inner = self.norm(self.first(image)).relu()
        classes = self.classify(self.last(inner).relu().mean((2, 3)))
        return {"classes": classes, "features": [inner, self.extra(inner)]}


class SlotDetector(Detector):
    def forward(self, image):
        found = super().forward(image)
        return Slots(found["classes"], found["features"])


class TrainedDetector(Detector):
    """Returns the features alone in training."""

    def forward(self, image):
        found = super().forward(image)
        return found["features"] if self.training else found


def protections(graph) -> dict[str, str | None]:
    return {group.name: group.protected for group in graph.groups}


def test_a_network_of_torch_layers_that_ask_for_their_mode_needs_no_second_pass():
    net = nn.Sequential(conv(3, 8), nn.BatchNorm2d(8), nn.Dropout(), conv(8, 4), StochasticDepth(0.5, "row"))
    assert trace(net, IMAGE).training == ()
    assert len(trace(modes.OnlyRunInTraining(), IMAGE).training) == 1


def test_what_is_made_in_training_says_so():
    graph = trace(modes.OnlyRunInTraining(), IMAGE)
    assert protections(graph) == {
        "first": None,
        "last": None,
        "classify": "it leaves the model",
        "aux.0": "it matters in training only",
        "aux.2": "it leaves the model, in training",
    }
    assert cost(graph).macs == cost(trace(Built(), IMAGE)).macs
    assert {"aux.0.weight", "aux.2.weight"} <= graph.shapes.keys()


def test_the_readers_of_training_are_readers():
    graph = trace(modes.OnlyRunInTraining(), IMAGE)
    assert graph["first"].readers == ("last", "aux.0")
    net = modes.OnlyRunInTraining()
    narrow(net, graph, {"first": [1, 2]})
    assert net.aux[0].in_channels == 2


def test_a_training_pass_that_needs_targets_is_told_and_followed_when_they_are_given():
    net = NeedsTargets()
    graph = trace(net, IMAGE)
    assert graph.not_followed == (
        "in training the model was followed up to an error only: targets should not be None in training; never run, "
        "and left as they are, were aux"
    )
    told = trace(net, IMAGE, training_input=(IMAGE, torch.tensor([1])))
    assert told.not_followed is None
    assert told["first"].readers == ("last", "aux")
    narrow(net, told, {"first": [0, 3], "last": [1]})
    net.train()(torch.rand(2, 3, 6, 6), torch.tensor([1, 2])).backward()


def test_a_cut_that_fails_in_training_is_refused_with_the_mode():
    net = NotThree()
    graph = trace(net, IMAGE)
    with pytest.raises(ValueError, match=r"in training.*nothing was cut, concerned are the groups \['first'\]"):
        narrow(net, graph, {"first": [0, 3, 4]})
    narrow(net, graph, {"first": [0, 3, 4, 5]})


@pytest.mark.parametrize(
    ("network", "outputs"),
    [
        (Detector, "classes"),
        (Detector, ["classes"]),
        (Detector, lambda result: result["classes"]),
        (SlotDetector, "classes"),
    ],
)
def test_what_does_not_matter_may_lose_channels(network, outputs):
    net = network()
    assert trace(net, IMAGE)["first"].protected == "it leaves the model"
    graph = trace(net, IMAGE, outputs=outputs)
    assert graph["first"].protected is None
    assert graph["extra"].protected == "nothing that can be seen depends on it"
    narrow(net, graph, {"first": [0, 3]})
    assert net.extra.in_channels == 2


@pytest.mark.parametrize("network", [modes.LiteralWhereDropped, modes.LiteralWhereKept])
def test_a_number_on_a_path_that_is_rarely_taken_is_found(network):
    graph = trace(network(), IMAGE)
    first = [group for group in graph.groups if "first" in group.writers]
    assert [(group.size, group.protected is None) for group in first] == [(4, False), (4, True)]


def test_outputs_that_training_does_not_have_are_all_outputs_there():
    graph = trace(TrainedDetector(), IMAGE, outputs="classes")
    assert graph["first"].protected == "it leaves the model, in training"


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        ("boxes", r"a dict with \['classes', 'features'\], has no 'boxes'"),
        (lambda result: None, "picks no tensor from the model's result"),
    ],
)
def test_outputs_that_are_not_there_are_refused(outputs, words):
    with pytest.raises(ValueError, match=words):
        trace(Detector(), IMAGE, outputs=outputs)


def test_a_comparison_in_training_sees_what_eval_mode_does_not():
    one, other = randomise(modes.OnlyRunInTraining()), modes.OnlyRunInTraining()
    other.load_state_dict(one.state_dict())
    with torch.no_grad():
        other.aux[0].weight.mul_(2)
    images = torch.rand(2, 3, 6, 6)
    assert verify(one, other, images) == 0
    assert verify(one, other, images, training=True) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), [("googlenet", 64), ("inception_v3", 299)])
def test_torchvision_networks_with_auxiliary_heads_train_after_a_cut(name, size):
    net = randomise(torchvision.models.get_model(name, aux_logits=True, init_weights=False))
    images = torch.rand(2, 3, size, size)
    graph = trace(net, images[:1])
    assert graph.not_followed is None
    masked = torchvision.models.get_model(name, aux_logits=True, init_weights=False)
    masked.load_state_dict(net.state_dict())
    kept = random_kept(graph, 0)
    narrow(net, graph, kept)
    mask(masked, graph, kept)
    net.double(), masked.double()
    for training in (False, True):
        assert verify(net, masked, images.double(), training=training) < 1e-9
    logits = net.train()(images.double())
    sum(each.sum() for each in logits).backward()
    assert len(logits) == (3 if name == "googlenet" else 2)
    assert all(parameter.grad is not None for parameter in net.parameters())

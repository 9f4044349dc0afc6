"""Weights that torchvision publishes: fetched, from a file, and what is said where there is no way to them."""

from collections import OrderedDict
from urllib.error import URLError

import pytest
import torch
from torch import nn

from pruning_lit.models import load_weights, torchvision_model

FETCH = "torchvision.models._api.load_state_dict_from_url"


@pytest.fixture
def published(monkeypatch) -> dict[str, torch.Tensor]:
    """The state dict of a ResNet-18 that a download would give; the calls are checked."""
    torch.manual_seed(0)
    weights = torchvision_model("resnet18").state_dict()

    def fetch(url, check_hash, weights_only):
        assert url.endswith("/resnet18-f37072fd.pth")
        assert check_hash
        assert weights_only
        return weights

    monkeypatch.setattr(FETCH, fetch)
    return weights


def assert_loaded(net, weights):
    assert all(torch.equal(tensor, weights[name]) for name, tensor in net.state_dict().items())


def test_a_network_starts_from_published_weights(published):
    assert_loaded(torchvision_model("resnet18", weights="IMAGENET1K_V1"), published)
    assert_loaded(torchvision_model("resnet18", weights="DEFAULT"), published)


def test_published_weights_stand_in_the_place_of_a_file(published):
    net = torchvision_model("resnet18")
    load_weights(net, "ResNet18_Weights.IMAGENET1K_V1")
    assert_loaded(net, published)


@pytest.mark.slow
def test_a_file_fetched_by_hand_gives_the_same(published, tmp_path):
    torch.save(published, tmp_path / "resnet18-f37072fd.pth")
    net = torchvision_model("resnet18")
    load_weights(net, tmp_path / "resnet18-f37072fd.pth")
    assert_loaded(net, published)


@pytest.mark.slow
@pytest.mark.at_once(1)
@pytest.mark.parametrize("error", [URLError("no route to host"), RuntimeError("invalid hash value")])
def test_without_a_way_to_them_the_file_and_the_option_are_named(monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(FETCH, fail)
    said = (
        r"^'https://\S+/resnet50-0676ba61.pth' could not be downloaded \(.*(no route|invalid hash).*\): fetch "
        r"resnet50-0676ba61.pth elsewhere, then set weights=<its path> and leave arch.weights null$"
    )
    with pytest.raises(FileNotFoundError, match=said):
        torchvision_model("resnet50", weights="IMAGENET1K_V1")
    with pytest.raises(FileNotFoundError, match=said):
        load_weights(torchvision_model("resnet50"), "ResNet50_Weights.IMAGENET1K_V1")


@pytest.mark.slow
def test_unknown_names_are_refused_with_those_that_there_are():
    with pytest.raises(ValueError, match=r"no weights 'V3' for 'resnet50'; there are IMAGENET1K_V1, IMAGENET1K_V2"):
        torchvision_model("resnet50", weights="V3")
    for name in ("ResNet50_Weights.V3", "ResNet49_Weights.V1"):
        with pytest.raises(ValueError, match=rf"called '{name}'; a name is such as ResNet50_Weights.IMAGENET1K_V1"):
            load_weights(torchvision_model("resnet18"), name)


def test_weights_for_other_classes_are_refused(published):
    with pytest.raises(ValueError, match=r"fc.weight is \(1000, 512\) in the file and \(100, 512\) in the network"):
        torchvision_model("resnet18", num_classes=100, weights="IMAGENET1K_V1")


def test_a_file_of_weights_that_were_trained_without_an_eps_is_corrected_as_by_name(tmp_path):
    variances = {"bn.running_var": torch.tensor([0.5, 1.0]), "bn.weight": torch.ones(2)}
    for name in ("fasterrcnn_resnet50_fpn_coco-258fb6c6.pth", "other.pth"):
        net = nn.Sequential(OrderedDict(bn=nn.BatchNorm2d(2)))
        rest = {"bn.bias": torch.zeros(2), "bn.running_mean": torch.zeros(2)}
        torch.save(variances | rest, tmp_path / name)
        load_weights(net, tmp_path / name)
        expected = variances["bn.running_var"] - (1e-5 if name.startswith("faster") else 0)
        torch.testing.assert_close(net.bn.running_var, expected, rtol=0, atol=1e-9)

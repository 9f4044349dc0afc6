"""The thin builder of torchvision's networks."""

import pytest
import torch

from pruning_lit.models import torchvision_model


def test_classes_and_further_options_reach_the_builder():
    net = torchvision_model("mobilenet_v2", num_classes=7, width_mult=0.25).eval()
    assert net(torch.zeros(1, 3, 32, 32)).shape == (1, 7)
    assert net.features[0][0].out_channels == 8


def test_a_detector_does_not_download_its_backbone(monkeypatch):
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *_, **__: pytest.fail("a download was tried"))
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", torch.hub.load_state_dict_from_url)
    assert torchvision_model("ssdlite320_mobilenet_v3_large", num_classes=3).training


def test_an_unknown_name_is_refused_with_close_ones():
    with pytest.raises(ValueError, match=r"no network 'resnet51'; closest names: .*resnet50"):
        torchvision_model("resnet51")
    with pytest.raises(ValueError, match=r"no network 'qqqq'; .*list_models"):
        torchvision_model("qqqq")


def test_given_weights_have_scales_of_their_own(monkeypatch):
    def fill(net, name):
        with torch.no_grad():
            net.bn1.weight.fill_(0.75)

    monkeypatch.setattr("pruning_lit.models.torchvision.load_weights", fill)
    net = torchvision_model("resnet18", weights="IMAGENET1K_V1", norm_scale=0.5)
    assert (net.bn1.weight == 0.75).all()


def test_two_starts_of_the_same_scales_are_refused():
    with pytest.raises(ValueError, match=r"norm_scale=0\.5 .* zero_init_residual=true .*: leave one of them out"):
        torchvision_model("resnet18", norm_scale=0.5, zero_init_residual=True)
    net = torchvision_model("resnet18", zero_init_residual=True)
    assert (net.layer1[0].bn2.weight == 0).all()

"""torchvision's detectors, with norms in the backbone that are trained or frozen, and with published weights."""

import pytest
import torch
from torch import nn
from torchvision.models import WeightsEnum, get_model
from torchvision.models.detection._utils import overwrite_eps
from torchvision.ops import FrozenBatchNorm2d

from pruning_lit.models import load_weights, torchvision_detector
from tests.models.small_detectors import training_batch

NAME = "fasterrcnn_resnet50_fpn"
SIZES = {"min_size": 64, "max_size": 64}
ENUMS = {  # where torchvision keeps weights
    NAME: "FasterRCNN",
    "maskrcnn_resnet50_fpn": "MaskRCNN",
    "retinanet_resnet50_fpn": "RetinaNet",
    "fcos_resnet50_fpn": "FCOS",
}


def norms(net: nn.Module) -> list[nn.Module]:
    return [module for module in net.modules() if isinstance(module, FrozenBatchNorm2d | nn.BatchNorm2d)]


@pytest.mark.parametrize(("norm", "kind"), [("batch", nn.BatchNorm2d), ("frozen", FrozenBatchNorm2d)])
def test_the_norms_are_of_the_kind_that_is_asked_for(norm, kind):
    net = torchvision_detector(NAME, num_classes=3, norm=norm, **SIZES)
    assert len(norms(net)) == 53  # those of a ResNet-50
    assert all(type(each) is kind for each in norms(net))
    assert sum(parameter.numel() for parameter in net.parameters() if parameter.ndim == 1) > 0
    assert net.transform.min_size == (64,)


def test_frozen_norms_stay_as_they_are_in_training():
    torch.manual_seed(0)
    net = torchvision_detector(NAME, num_classes=5, **SIZES)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items() if ".bn" in name}
    optimizer = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9)
    for _ in range(3):
        optimizer.zero_grad()
        loss = sum(net(*training_batch()).values())
        loss.backward()
        optimizer.step()
    assert loss.item() < 10  # though nothing normalises
    assert len(before) > 200 - 53
    assert all(torch.equal(net.state_dict()[name], tensor) for name, tensor in before.items())


def published(name: str) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """A detector as torchvision builds it with its trained weights, and weights as it publishes them."""
    net = get_model(name, weights=None, weights_backbone=None, **SIZES)
    state = {key: tensor for key, tensor in net.state_dict().items() if "num_batches" not in key}
    for key, tensor in state.items():
        if "running_var" in key:  # small ones, where what is added to them matters
            tensor.uniform_(1e-4, 1e-3)
        elif "bn" in key and "weight" in key:
            tensor.uniform_(0.001, 0.01)
    for parent in list(net.backbone.body.modules()):
        for child, module in list(parent.named_children()):
            if isinstance(module, nn.BatchNorm2d):
                setattr(parent, child, FrozenBatchNorm2d(module.num_features))
    net.load_state_dict(state)
    return net, state


@pytest.mark.at_once(1)
@pytest.mark.parametrize("norm", ["frozen", "batch"])
@pytest.mark.parametrize("name", ENUMS)
def test_trained_weights_do_what_they_do_in_torchvision(name, norm, monkeypatch):
    torch.manual_seed(0)
    theirs, state = published(name)
    if name != "fcos_resnet50_fpn":  # as torchvision does with the weights of the first detectors
        overwrite_eps(theirs, 0.0)
    asked = []

    def fetch(entry, **options):
        asked.append(str(entry))
        return state

    monkeypatch.setattr(WeightsEnum, "get_state_dict", fetch)
    ours = torchvision_detector(name, weights="COCO_V1", norm=norm, **SIZES)
    assert asked == [f"{ENUMS[name]}_ResNet50_FPN_Weights.COCO_V1"]
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        found, expected = (list(net.eval().backbone(images).values()) for net in (ours, theirs))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))


def test_a_file_of_weights_fits_either_norm(tmp_path):
    trained = torchvision_detector(NAME, norm="frozen", num_classes=3)
    torch.save(trained.state_dict(), tmp_path / "trained.pth")
    for norm in ("batch", "frozen"):
        net = torchvision_detector(NAME, norm=norm, num_classes=3)
        load_weights(net, tmp_path / "trained.pth")
        assert torch.equal(net.backbone.body.conv1.weight, trained.backbone.body.conv1.weight)


def test_another_norm_and_other_weights_are_refused():
    with pytest.raises(ValueError, match=r"arch\.norm must be 'batch' or 'frozen', got 'group'"):
        torchvision_detector(NAME, norm="group")
    with pytest.raises(ValueError, match=r"no weights 'COCO_V2' for 'fcos_resnet50_fpn'; there are COCO_V1"):
        torchvision_detector("fcos_resnet50_fpn", weights="COCO_V2")

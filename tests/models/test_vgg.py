"""VGG with batch norm: where it pools, what it ends in, what it refuses."""

import pytest
import torch
from torch import nn

from pruning_lit.models import vgg_bn


def test_vgg16_has_13_biased_convolutions_and_pools_after_2_4_7_and_10():
    net, layers = vgg_bn().eval(), {}
    for name, module in net.features.named_children():
        module.register_forward_hook(lambda _m, _i, output, name=name: layers.update({name: tuple(output.shape[1:])}))
    net(torch.zeros(1, 3, 32, 32))
    assert [name for name in layers if name.startswith("conv")] == [f"conv{number}" for number in range(1, 14)]
    assert all(getattr(net.features, f"conv{number}").bias is not None for number in range(1, 14))
    assert {name: shape for name, shape in layers.items() if name.startswith("pool")} == {
        "pool2": (64, 16, 16),
        "pool4": (128, 8, 8),
        "pool7": (256, 4, 4),
        "pool10": (512, 2, 2),
    }
    assert layers["relu13"] == (512, 2, 2)


@pytest.mark.at_once(1)
@pytest.mark.parametrize("num_classes", [10, 100])
def test_classifier_is_one_layer_or_two_with_batch_norm(num_classes):
    images = torch.zeros(1, 3, 32, 32)
    linear = vgg_bn(11, num_classes, classifier="linear").eval()
    mlp = vgg_bn(11, num_classes, classifier="mlp").eval()
    assert isinstance(linear.classifier, nn.Linear)
    assert [type(layer) for layer in mlp.classifier] == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
    assert linear(images).shape == mlp(images).shape == (1, num_classes)


def test_bias_can_be_left_out():
    assert not any(name.endswith("bias") and "conv" in name for name, _ in vgg_bn(11, bias=False).named_parameters())


def test_unknown_depth_and_classifier_are_refused():
    with pytest.raises(ValueError, match="11, 13, 16, 19, got 17"):
        vgg_bn(17)
    with pytest.raises(ValueError, match="'linear', 'mlp' or 'mlp_plain', got 'fc'"):
        vgg_bn(16, classifier="fc")

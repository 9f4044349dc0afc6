"""The start weights of the CIFAR networks."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def kaiming_convolutions(model: nn.Module) -> None:
    """Draw the kernels of all convolutions anew, in place, so that gradients keep their size through ReLU layers.

    Normal with variance 2 / (kernel area * output channels); biases start at zero. Other layers keep torch's own start.

    Args:
        model: the network, on the device and in the precision it has.

    Source: He et al. 2015, "Delving Deep into Rectifiers", equation 14.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def batch_norm_scales(model: nn.Module, scale: float) -> None:
    """Let the scales of all batch norms start at one value, in place.

    Args:
        model: the network.
        scale: the value; Network Slimming starts at 0.5, so that scales can leave for 0 without a long way.

    Source: Liu et al. 2017, "Learning Efficient Convolutional Networks through Network Slimming", section 4.3.
    """
    for module in model.modules():
        if isinstance(module, _BatchNorm) and module.affine:
            nn.init.constant_(module.weight, scale)

"""The start weights of the CIFAR networks."""

from torch import nn


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

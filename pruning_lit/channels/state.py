"""Tensors of a model's state: parameters and buffers without what else its state dict may hold."""

from torch import Tensor, nn


def state_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by their state-dict names, which share memory with the model's; no extra state."""
    return {name: each for name, each in model.state_dict().items() if isinstance(each, Tensor)}

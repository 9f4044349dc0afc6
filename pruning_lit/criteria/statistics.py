"""Statistics that batch norms go by while a criterion looks at maps: their running averages, or those of each batch."""

import copy
from typing import Any, Literal, get_args

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

Statistics = Literal["running", "batch"]


def require_statistics(value: Any) -> None:
    """ValueError unless the setting ``criterion.statistics`` is one that there is."""
    if value not in get_args(Statistics):
        raise ValueError(f"criterion.statistics is one of {list(get_args(Statistics))}, got {value!r}")


def with_statistics_of_the_batch(net: nn.Module) -> nn.Module:
    """A copy whose batch norms, in eval mode, go by the images that pass through them."""
    copied = copy.deepcopy(net)
    for module in copied.modules():
        if isinstance(module, _BatchNorm):
            module.running_mean = module.running_var = None
    return copied

"""Parameter groups of an optimizer: biases, norms and depthwise kernels with settings of their own."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.optim import Optimizer

NORMS = (_BatchNorm, _InstanceNorm, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


class ParameterGroups:
    """Split the parameters of a network into groups of an optimizer, by the kind of layer they belong to.

    There are biases of all layers, the biases of norms (shifts) included; the weights of norms (scales); the kernels of
    depthwise convolutions; and all other parameters, which keep the optimizer's settings.

    Args:
        bias_lr: learning rate of the biases, as a multiple of the others'; schedules keep the ratio.
        decay_biases: whether the optimizer's weight decay is on biases, too.
        decay_norms: whether it is on the weights of norms.
        decay_depthwise: whether it is on the kernels of depthwise convolutions.
        decay_norm_biases: whether it is on the biases of norms; None: as on the other biases.
        exempt: patterns (``*.downsample.1.*``) of parameter names; these keep the optimizer's settings, whatever their
            kind.

    Raises:
        ValueError: a setting is out of its range.
    """

    def __init__(
        self,
        bias_lr: float = 1.0,
        decay_biases: bool = True,
        decay_norms: bool = True,
        decay_depthwise: bool = True,
        decay_norm_biases: bool | None = None,
        exempt: Sequence[str] = (),
    ) -> None:
        if isinstance(bias_lr, bool) or not isinstance(bias_lr, int | float) or not 0 <= bias_lr < math.inf:
            raise ValueError(f"parameters.bias_lr is a multiple of the learning rate, at least 0, got {bias_lr!r}")
        switches = {"decay_biases": decay_biases, "decay_norms": decay_norms, "decay_depthwise": decay_depthwise}
        for name, value in switches.items():
            if not isinstance(value, bool):  # "no" would be true
                raise ValueError(f"parameters.{name} is true or false, got {value!r}")
        if not isinstance(decay_norm_biases, bool | None):
            raise ValueError(
                f"parameters.decay_norm_biases is true, false or null (as decay_biases), got {decay_norm_biases!r}"
            )
        if isinstance(exempt, str):
            raise ValueError(f"parameters.exempt is a list of patterns such as ['*.downsample.1.*'], got {exempt!r}")
        self.bias_lr = float(bias_lr)
        self.exempt = [str(pattern) for pattern in exempt]
        self.decay_biases, self.decay_norms, self.decay_depthwise = decay_biases, decay_norms, decay_depthwise
        self.decay_norm_biases = decay_biases if decay_norm_biases is None else decay_norm_biases

    def split(self, net: nn.Module, apart: Iterable[nn.Parameter] = ()) -> list[dict[str, Any]]:
        """The groups of a network's parameters, those with the settings of the optimizer first.

        Args:
            net: the network; a parameter that several modules share counts with the first of them.
            apart: parameters that are left out.

        Returns:
            Groups as optimizers take them, none empty, with what differs from the optimizer's settings:
            ``weight_decay`` and, for ``make``, ``lr_scale``. Kinds with equal settings are one group, in the order of
            ``net.parameters()``.

        Raises:
            ValueError: a pattern matches no parameter.
        """
        self._require_known(net)
        seen = set(apart)
        groups: dict[tuple[tuple[str, float], ...], list[nn.Parameter]] = {(): []}
        for path, module in net.named_modules():
            for name, parameter in module.named_parameters(recurse=False):
                if parameter not in seen:
                    seen.add(parameter)
                    settings = {} if self._exempts(f"{path}.{name}".lstrip(".")) else self._settings(module, name)
                    groups.setdefault(tuple(settings.items()), []).append(parameter)
        return [{"params": members, **dict(settings)} for settings, members in groups.items() if members]

    def make(
        self, optimizer: Callable[..., Optimizer], net: nn.Module, special: Sequence[Mapping[str, Any]] = ()
    ) -> Optimizer:
        """An optimizer of the groups, for a schedule to be attached to.

        Args:
            optimizer: groups to optimizer, for instance a partial of ``torch.optim.SGD``.
            net: the network.
            special: further groups, whose parameters are in no other one; ``lr_scale`` in them is a multiple of the
                optimizer's learning rate.

        Raises:
            ValueError: the optimizer does not take groups, or lacks a setting that a special group has.
        """
        further = [{**group, "params": list(group["params"])} for group in special]
        apart = [parameter for group in further for parameter in group["params"]]
        made = optimizer([*self.split(net, apart), *(group for group in further if group["params"])])
        for group in made.param_groups:
            if (scale := group.pop("lr_scale", 1.0)) != 1:
                group["lr"] = group["lr"] * scale  # a new one: a rate that is a tensor is shared by the groups
        _require_settings(made, further)
        return made

    def _exempts(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self.exempt)

    def _require_known(self, net: nn.Module) -> None:
        names = [name for name, _ in net.named_parameters()]
        for pattern in self.exempt:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise ValueError(f"parameters.exempt: no parameter is called {pattern!r}; some are {names[:5]}")

    def _settings(self, module: nn.Module, name: str) -> dict[str, float]:
        """Learning-rate scale and weight decay of a module's own parameter where they differ from the optimizer's."""
        if _is_bias(module, name):
            scale = {} if self.bias_lr == 1 else {"lr_scale": self.bias_lr}
            return scale | _decay(self.decay_norm_biases if isinstance(module, NORMS) else self.decay_biases)
        if isinstance(module, NORMS):
            return _decay(self.decay_norms)
        if isinstance(module, _ConvNd) and module.groups == module.in_channels > 1:
            return _decay(self.decay_depthwise)
        return {}


def _decay(wanted: bool) -> dict[str, float]:
    return {} if wanted else {"weight_decay": 0.0}


def _is_bias(module: nn.Module, name: str) -> bool:
    """Torch's layers call it ``bias``, but for two; a table of biases, as in Swin, is no bias of a layer."""
    if isinstance(module, nn.RNNBase):
        return name.startswith("bias_")
    return name == "bias" or (isinstance(module, nn.MultiheadAttention) and name == "in_proj_bias")


def _require_settings(made: Optimizer, special: Iterable[Mapping[str, Any]]) -> None:
    """Torch would ignore what it does not know."""
    for group in special:
        if unknown := sorted(group.keys() - made.defaults.keys() - {"params", "lr_scale"}):
            raise ValueError(
                f"{type(made).__name__} has no setting {unknown[0]!r}, which some parameters of this phase need; "
                "choose an optimizer that has it, such as SGD"
            )

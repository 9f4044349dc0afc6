"""The golden networks for the decomposition of redundancy graphs, with their weights and the names that they have here.

Source of the files: the original selection code run on small networks with random weights, on the CPU.
"""

from typing import TypeVar

import numpy as np
import torch
from torch import nn

from pruning_lit.models import CifarDenseNet, CifarResNet, cifar_densenet, cifar_resnet
from tests.places import VECTORS

Net = TypeVar("Net", bound=nn.Module)

GOLDEN = VECTORS / "redundancy_graph"

RESNET8 = {"conv": "conv1", "bn": "bn1", "fc": "linear"}
RESNET8 |= {f"layer{s}.0.{part}": f"layer{s}.0.{part}" for s in (1, 2, 3) for part in ("conv1", "bn1", "conv2", "bn2")}
RESNET8 |= {f"layer{s}.0.downsample.0": f"layer{s}.0.shortcut.conv" for s in (2, 3)}
RESNET8 |= {f"layer{s}.0.downsample.1": f"layer{s}.0.shortcut.bn" for s in (2, 3)}

READERS = [f"dense{block}.{layer}" for block in (1, 2, 3) for layer in (0, 1)] + ["trans1", "trans2"]
DENSENET10 = {"conv": "conv1", "bn": "bn", "fc": "fc"}
DENSENET10 |= {f"{reader}.{part}": f"{reader}.{part}1" for reader in READERS for part in ("bn", "conv")}

#: By golden file: its names of layers, and ours.
LAYER_NAMES = {"e2e_resnet8": RESNET8, "e2e_densenet10": DENSENET10}


def golden(name: str) -> np.lib.npyio.NpzFile:
    """The arrays of one golden file, ``e2e_resnet8`` for example."""
    return np.load(GOLDEN / f"{name}.npz")


def golden_resnet8() -> CifarResNet:
    """ResNet-8 with the weights of ``e2e_resnet8``, in float64 and eval mode."""
    return _loaded(cifar_resnet(8, stem="tied", shortcut="conv"), "e2e_resnet8")


def golden_densenet10() -> CifarDenseNet:
    """DenseNet-10 with the weights of ``e2e_densenet10``, in float64 and eval mode."""
    return _loaded(cifar_densenet(10, growth=8, stem=16, selections=False), "e2e_densenet10")


def _loaded(net: Net, name: str) -> Net:
    arrays, state = golden(name), {}
    for key in arrays.files:
        if key.startswith("state/"):
            layer, _, tensor = key.removeprefix("state/").rpartition(".")
            state[f"{LAYER_NAMES[name][layer]}.{tensor}"] = torch.from_numpy(arrays[key])
    net.double().load_state_dict(state)
    return net.eval()

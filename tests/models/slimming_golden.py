"""Network Slimming's golden networks: how they are built here, and which group each of their batch norms is."""

import json

import numpy as np
import torch
from torch import Tensor, nn

from pruning_lit.channels import ChannelGraph, Kept
from pruning_lit.models import VGG, cifar_densenet, preresnet
from tests.places import VECTORS

GOLDEN = VECTORS / "network_slimming"
COMPLETE = ["vgg_plain", "vgg_ties", "preresnet_n1", "preresnet_n2_c100", "densenet_d13", "densenet_d22_c100"]
EMPTIED = ["vgg_empty_layer", "preresnet_empty_bn3", "preresnet_empty_bn1_bn2"]  # a layer would lose all its channels
TOLERANCE = {"rtol": 0, "atol": 1e-5}


class Golden:
    """One network: its numbers, and its names as they are here."""

    def __init__(self, name: str) -> None:
        self.arrays = dict(np.load(GOLDEN / f"{name}.npz"))
        self.meta = json.loads(str(self.arrays.pop("meta")))
        self.images = self["x"].float()

    def __getitem__(self, name: str) -> Tensor:
        return torch.from_numpy(self.arrays[name])

    def under(self, folder: str) -> dict[str, Tensor]:
        """The arrays called ``<folder>/<name>``, by name."""
        start = f"{folder}/"
        return {name.removeprefix(start): self[name] for name in self.arrays if name.startswith(start)}

    def build(self) -> nn.Module:
        """The dense network, with fresh weights, in eval mode."""
        meta = self.meta
        if meta["family"] == "vgg":
            return vgg(meta["cfg"], meta["num_classes"]).eval()
        if meta["family"] == "preresnet":
            return preresnet(meta["depth"], meta["num_classes"], width=meta["base_width"]).eval()
        return cifar_densenet(meta["depth"], meta["num_classes"], growth=meta["growth_rate"]).eval()

    def kept(self, net: nn.Module, graph: ChannelGraph, folder: str = "mask") -> Kept:
        """The channels that stay, by group: that of which the batch norm is a part."""
        norms = dict(zip(self.meta["bn_order"], norms_of(net), strict=True))
        return {
            group_of(graph, norms[name]): mask.nonzero().flatten().tolist() for name, mask in self.under(folder).items()
        }


def vgg(cfg: list[int | str], num_classes: int) -> VGG:
    """The release's list of widths, with ``M`` for a pool, as a network of ours."""
    resolutions: list[list[int]] = [[]]
    for width in cfg:
        if isinstance(width, int):
            resolutions[-1].append(width)
        else:
            resolutions.append([])
    classifier = nn.Linear(resolutions[-1][-1], num_classes)
    return VGG(tuple(map(tuple, resolutions)), bias=False, classifier=classifier, norm_scale=0.5)


def norms_of(net: nn.Module) -> list[str]:
    """The names of all batch norms, in order."""
    return [name for name, module in net.named_modules() if isinstance(module, nn.BatchNorm2d)]


def group_of(graph: ChannelGraph, norm: str) -> str:
    """The one group that all the channels of a batch norm make."""
    (name,) = [group.name for group in graph.groups if f"{norm}.weight" in {piece.tensor for piece in group.slices}]
    return name

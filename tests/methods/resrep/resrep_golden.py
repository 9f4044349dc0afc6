"""ResRep's golden networks under the names that they have here; on any network compactors of which half is dead.

Source of the files: the published code, run on small networks with random weights, on the CPU.
"""

import copy
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from pruning_lit.channels import Placement, compactors, insert_compactors, trace
from pruning_lit.methods.resrep import CompactorNorm
from pruning_lit.methods.resrep.placement import Policy
from tests.places import VECTORS

GOLDEN = VECTORS / "resrep"
THRESHOLD = 1e-5  # length below which the release removes a row
Layer = Callable[..., nn.Sequential]


class Plain(nn.Module):
    """Four convolutions with compactors, a pool after the second."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.stem = nn.ModuleDict({f"conv{n}": layer(f"stem.conv{n}") for n in (1, 2, 3, 4)})
        self.fc = nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        one, two, three, four = self.stem.values()
        x = F.max_pool2d(two(one(x).relu()).relu(), 2)
        return self.fc(F.avg_pool2d(four(three(x).relu()).relu(), 4).flatten(1))


class Flattened(nn.Module):
    """One convolution; the linear layer reads every pixel of every channel."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.conv1, self.fc = layer("conv1"), nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.max_pool2d(self.conv1(x).relu(), 2).flatten(1))


class Separable(nn.Module):
    """Depthwise convolutions between convolutions with compactors."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.conv1, self.dw1, self.pw1 = layer("conv1", stride=2), layer("dw1", groups=6), layer("pw1")
        self.dw2, self.pw2 = layer("dw2", stride=2, groups=7), layer("pw2")
        self.linear = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        for each in (self.conv1, self.dw1, self.pw1, self.dw2, self.pw2):
            x = each(x).relu()
        return self.linear(F.avg_pool2d(x, 2).flatten(1))


class Block(nn.ModuleDict):
    """Convolutions one after the other, beside a shortcut."""

    def __init__(self, layer: Layer, name: str, count: int, strided: int | None = None) -> None:
        numbers = range(1, count + 1)
        super().__init__({f"conv{n}": layer(f"{name}.conv{n}", stride=2 if n == strided else 1) for n in numbers})

    def forward(self, x: Tensor, shortcut: Tensor) -> Tensor:
        *inner, last = self.values()
        for each in inner:
            x = each(x).relu()
        return (last(x) + shortcut).relu()


class Basic(nn.Module):
    """A stem, two basic blocks, and one behind a projection."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        blocks = {f"block{n}": Block(layer, f"stage1.block{n}", 2) for n in (0, 1)}
        self.stage1 = nn.ModuleDict({"conv1": layer("stage1.conv1"), **blocks})
        projection = layer("stage2.projection", stride=2)
        self.stage2 = nn.ModuleDict({"projection": projection, "block0": Block(layer, "stage2.block0", 2, strided=1)})
        self.fc = nn.Linear(9, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage1["conv1"](x).relu()
        x = self.stage1["block0"](x, x)
        x = self.stage1["block1"](x, x)
        x = self.stage2["block0"](x, self.stage2["projection"](x))
        return self.fc(F.avg_pool2d(x, 4).flatten(1))


class Bottleneck(nn.Module):
    """A stem, and two bottlenecks, the first of them beside a projection."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.conv1 = layer("conv1")
        blocks = {f"block{n}": Block(layer, f"stage1.block{n}", 3, strided=2 if n == 0 else None) for n in (0, 1)}
        self.stage1 = nn.ModuleDict({"projection": layer("stage1.projection", stride=2), **blocks})
        self.fc = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x).relu()
        x = self.stage1["block0"](x, self.stage1["projection"](x))
        x = self.stage1["block1"](x, x)
        return self.fc(F.avg_pool2d(x, 4).flatten(1))


NETWORKS: dict[str, Callable[[Layer], nn.Module]] = {
    "convert_plain": Plain,
    "convert_residual_basic": Basic,
    "convert_residual_bottleneck": Bottleneck,
    "convert_residual_coupled": Basic,
    "convert_flatten": Flattened,
    "convert_depthwise": Separable,
}

#: Where the release has its one compactor for a stream: the batch norms behind which it is applied.
STREAMS = {
    "stage1.align_opr": ("stage1.conv1.bn", "stage1.block0.conv2.bn", "stage1.block1.conv2.bn"),
    "stage2.align_opr": ("stage2.projection.bn", "stage2.block0.conv2.bn"),
}


class Golden:
    """One network, before and after its conversion.

    Attributes:
        name: of the file.
        images: shape ``(3, 3, H, W)``.
        before, after: state dicts, by the names that they have here.
        sites: of every compactor, the batch norms behind which it is.
    """

    def __init__(self, name: str) -> None:
        self.name, self.arrays = name, dict(np.load(GOLDEN / f"{name}.npz"))
        self.images = self["x"]
        recorded = self._under("before")
        owners = [each.removesuffix(".pwc.weight") for each in recorded if each.endswith(".pwc.weight")]
        here = {owner: STREAMS.get(owner) or (owner.replace(".compactor", ".bn"),) for owner in owners}
        self.behind = [*here.values()]
        self.before = {}
        for each, tensor in recorded.items():
            owner = each.removesuffix(".pwc.weight").removesuffix(".mask")
            if owner not in here:
                self.before[each] = tensor
                continue
            matrix_or_mask = "weight" if each.endswith("weight") else "mask"
            squeezed = tensor.flatten(1) if matrix_or_mask == "weight" else tensor
            self.before |= {f"{site}.compactor.{matrix_or_mask}": squeezed for site in here[owner]}
        self.after = self._under("after")

    def __getitem__(self, name: str) -> Tensor:
        return torch.from_numpy(self.arrays[name])

    def _under(self, folder: str) -> dict[str, Tensor]:
        start = f"{folder}/"
        return {name.removeprefix(start): self[name] for name in self.arrays if name.startswith(start)}

    def build(self) -> nn.Module:
        """The network without compactors, with its weights, in eval mode."""
        net = NETWORKS[self.name](self._layer).eval()
        net.load_state_dict(
            {name: tensor for name, tensor in self.before.items() if ".compactor." not in name}, strict=False
        )  # not strict: the counters of the batch norms are not recorded
        return net

    def with_compactors(self, placements: Collection[Placement]) -> nn.Module:
        """The same with its compactors; those of further placements are left as they are put in."""
        net = self.build()
        insert_compactors(net, placements)
        missing, unexpected = net.load_state_dict(self.before, strict=False)
        assert unexpected == []
        further = {
            site for placement in placements if tuple(placement.behind) not in self.behind for site in placement.behind
        }
        assert {name.partition(".compactor.")[0] for name in missing if "num_batches" not in name} == further
        return net

    def _layer(self, name: str, stride: int = 1, groups: int = 1) -> nn.Sequential:
        outputs, inputs, size, _ = self.before[f"{name}.conv.weight"].shape
        conv = nn.Conv2d(inputs * groups, outputs, size, stride, size // 2, groups=groups, bias=False)
        return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(outputs)))


def kept_by_length(
    net: nn.Module, placements: Collection[Placement], threshold: float = THRESHOLD
) -> dict[str, list[int]]:
    """By group the positions whose rows are at least so long."""
    there, kept = compactors(net), {}
    for placement in placements:
        alive = there[placement.behind[0]].norms() >= threshold
        kept |= {name: alive[list(rows)].nonzero().flatten().tolist() for name, rows in placement.rows.items()}
    return kept


def with_statistics(net: nn.Module, seed: int = 0) -> nn.Module:
    """Give every batch norm scales, shifts and statistics of its own, in place; activations stay of one size."""
    random = torch.Generator().manual_seed(seed)
    for norm in (module for module in net.modules() if isinstance(module, _BatchNorm)):
        assert norm.running_mean is not None
        width = len(norm.running_mean)
        norm.running_mean.copy_(0.3 * torch.randn(width, generator=random))
        norm.running_var.copy_(0.5 + torch.rand(width, generator=random))
        if norm.affine:
            norm.weight.data.copy_(0.5 + torch.rand(width, generator=random))
            norm.bias.data.copy_(0.3 * torch.randn(width, generator=random))
    return net.eval()


def placements_of(
    net: nn.Module, image: Tensor, policy: Policy = "internal_only", without: Collection[str] = ()
) -> list[Placement]:
    """All placements of a network, but not those of these groups."""
    criterion, graph = CompactorNorm(policy), trace(net, image)
    graph = graph.protect(criterion.unsupported(net, graph))
    return criterion.placements(net, graph, [group for group in graph.prunable if group.name not in without])


def half_dead(
    net: nn.Module, placements: Collection[Placement], widths: Mapping[str, int] | None = None, seed: int = 0
) -> tuple[nn.Module, dict[str, list[int]]]:
    """A copy with random compactors, many of whose rows are zero.

    Args:
        net: without compactors; it stays as it is.
        placements: where they are to be.
        widths: by group how many rows live; half of them where it does not say.
        seed: of the random numbers.

    Returns:
        The copy, and by group the positions of the rows that live.
    """
    net, random, kept = copy.deepcopy(net), torch.Generator().manual_seed(seed), {}
    there = insert_compactors(net, placements)
    for placement in placements:
        weight = there[placement.behind[0]].weight.data
        weight.add_(0.1 * torch.randn(weight.shape, generator=random, dtype=torch.float64) / placement.width**0.5)
        for name, rows in placement.rows.items():
            alive = (widths or {}).get(name, max(1, len(rows) // 2))
            order = torch.randperm(len(rows), generator=random).tolist()
            kept[name] = sorted(order[:alive])
            weight[[rows[position] for position in order[alive:]]] = 0.0
    return net, kept

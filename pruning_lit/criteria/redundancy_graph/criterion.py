"""The criterion that goes by redundancy graphs: similarities of maps, gathered in one pass over some images."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pruning_lit.channels import ChannelGraph, ChannelGroup, Producer
from pruning_lit.criteria.base import Criterion, Scoring, require_positive
from pruning_lit.criteria.gather import sums
from pruning_lit.criteria.magnitude import filter_powers
from pruning_lit.criteria.redundancy_graph.decomposition import removal_thresholds, shares
from pruning_lit.criteria.redundancy_graph.hashes import agreements
from pruning_lit.criteria.redundancy_graph.reference_layer import NO_CONVOLUTION, SELECTED, reference_uses
from pruning_lit.criteria.statistics import Statistics, require_statistics, with_statistics_of_the_batch

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Redundancy:
    """Redundancy of the filters of one group: their similarities and norms.

    Attributes:
        reference_layer: the layer whose maps and weights these are.
        similarity: shape ``(size, size)``, float64, on the CPU.
        norms: L1 norms of the filters, shape ``(size,)``, float64.
        num_bits: that were compared, over all images.
        places: pixels of a map; all filters are alike where it is 1.
    """

    reference_layer: str
    similarity: Tensor
    norms: Tensor
    num_bits: int
    places: int

    def scores(self) -> Tensor:
        """1 minus the threshold at which a filter goes; where that is the same, the larger norm is worth more.

        Shape ``(size,)``, float64, larger means more worth keeping; see ``removal_thresholds`` for how that
        differs from the published choice.
        """
        order = self.norms.sort(stable=True, descending=True).indices
        rank = torch.empty_like(self.norms)
        rank[order] = torch.arange(len(order), 0, -1, dtype=torch.float64)
        finest = 1 / self.num_bits  # similarities differ by at least that
        went = removal_thresholds(self.similarity, self.norms).clamp(min=-finest)
        return 1 - went + rank / (len(rank) + 1) * finest / 2


class RedundancyScores(dict[str, Tensor]):
    """Scores, and in ``layers`` what they were found from, for sparsities that choose by similarity."""

    def __init__(self, layers: Mapping[str, Redundancy]) -> None:
        super().__init__({name: layer.scores() for name, layer in layers.items()})
        self.layers = dict(layers)


def redundancies(scores: Mapping[str, Tensor]) -> dict[str, Redundancy]:
    """Redundancy behind these scores, by group; ValueError where they are not those of ``RedundancyGraph``."""
    if not isinstance(scores, RedundancyScores):
        raise ValueError("a similarity threshold goes by similarities, which only criterion=redundancy_graph finds")
    return scores.layers


class RedundancyGraph(Criterion):
    """Filters whose maps look alike are redundant.

    With ``sparsity=similarity`` the published decomposition chooses. With any other the scores do: the threshold at
    which a channel would go if the threshold fell from 1 and what has gone stayed gone; see ``removal_thresholds``.
    Both prefer large L1 norms.

    In each group one layer decides, by its own maps, before normalisation and activation, and by its own weights; see
    ``reference_uses``. Groups without a two-dimensional convolution stay whole.

    Args:
        num_images: images looked at over all ranks; fewer where the data set has fewer.
        augment: crop and mirror them as in training, as published.
        seed: of their choice and augmentation.
        statistics: of batch norms: ``running``; or ``batch``, as published: those of these images, which are then sent
            through as one batch, on every rank; the network's own do not change, and dropout is off.
        batch_size: images per forward pass, with ``statistics="running"``. One by one their maps, and so the bits, are
            the same to the last digit however many processes share the images.
        reference_layers: name of a group to the layer that decides there.
        min_pixels: groups whose maps have fewer pixels stay whole; maps of one pixel have a single bit that all filters
            share, so that of all of them one stays.

    Source: Li et al. 2024, "Filter Pruning via Decomposition of Redundancy Graphs", Neurocomputing,
    doi 10.1016/j.neucom.2024.128108.
    """

    needs_pixels = True

    def __init__(
        self,
        num_images: int = 100,
        augment: bool = False,
        seed: int = 0,
        statistics: Statistics = "running",
        batch_size: int = 1,
        reference_layers: Mapping[str, str] | None = None,
        min_pixels: int = 1,
    ) -> None:
        require_positive(num_images=num_images, batch_size=batch_size, min_pixels=min_pixels)
        require_statistics(statistics)
        if not isinstance(reference_layers, Mapping | None):
            raise ValueError(
                "criterion.reference_layers maps names of groups to layers, such as {layer1.0.conv2: layer1.1.conv2}, "
                f"got {reference_layers!r}"
            )
        self.num_images, self.batch_size, self.min_pixels = num_images, batch_size, min_pixels
        self.augment, self.seed, self.statistics = augment, seed, statistics
        self.reference_layers = {str(group): str(layer) for group, layer in (reference_layers or {}).items()}

    def unsupported(self, net: nn.Module, graph: ChannelGraph) -> dict[str, str]:
        """Groups without a reference layer, or with too small maps; ValueError for a layer that cannot be one."""
        for name in self.reference_layers:
            if name not in [group.name for group in graph.prunable]:
                able = [group.name for group in graph.prunable]
                raise ValueError(
                    f"criterion.reference_layers: {name!r} is no group that can be pruned; these are {able}"
                )
        reasons = {}
        for group in graph.prunable:
            uses = reference_uses(graph, group, self.reference_layers)
            if not uses:
                reasons[group.name] = NO_CONVOLUTION if group.producers else SELECTED
            elif uses[0].places < self.min_pixels:
                reasons[group.name] = f"its maps have {uses[0].places} pixel(s), criterion.min_pixels={self.min_pixels}"
        return reasons

    def check(self, groups: list[ChannelGroup]) -> None:
        """A warning where all filters are going to look equal."""
        blind = [group.name for group in groups if all(producer.places == 1 for producer in group.producers)]
        if blind:
            log.warning(
                "all filters of %s look equal, since their maps have one pixel and so one bit; by similarity one stays "
                "(criterion.min_pixels=2 leaves such layers whole)",
                ", ".join(blind),
            )

    def scores(self, scoring: Scoring) -> RedundancyScores:
        """Scores by the similarity threshold at which each filter goes, with the similarities behind them."""
        uses = {group.name: reference_uses(scoring.graph, group, self.reference_layers) for group in scoring.groups}
        outputs = {
            producer.output.operation: producer.output.channels for producers in uses.values() for producer in producers
        }
        shapes = {operation: (channels, channels) for operation, channels in outputs.items()}
        shared = self.statistics == "running"
        observed, together = scoring.view, self.batch_size
        if not shared:
            observed, together = with_statistics_of_the_batch(scoring.view), self.num_images
        batches = scoring.view_inputs(self.num_images, self.seed, self.augment, together, shared)
        totals = sums(observed, shapes, batches, lambda _, maps: agreements(maps), shared)
        parameters = dict(scoring.view.named_parameters())
        return RedundancyScores(
            {group.name: _redundancy(group, uses[group.name], totals, parameters) for group in scoring.groups}
        )


def _redundancy(
    group: ChannelGroup, uses: list[Producer], totals: Mapping[int, Tensor], parameters: Mapping[str, Tensor]
) -> Redundancy:
    """Redundancy of one group; where channels leave together, the bits and the weights of all of them count."""
    agreeing = torch.zeros(group.size, group.size, dtype=torch.float64)
    for producer in uses:
        total = totals[producer.output.operation].cpu()
        for together in producer.output.positions.unbind(1):
            agreeing += total[together][:, together]
    reference = uses[0]
    piece = next(piece for piece in group.slices if piece.tensor == reference.weight and piece.role == "writes")
    norms = filter_powers(parameters[reference.weight], 1, piece.dim).cpu()[piece.positions].sum(1)
    return Redundancy(reference.layer, shares(agreeing), norms, int(agreeing[0, 0]), reference.places)

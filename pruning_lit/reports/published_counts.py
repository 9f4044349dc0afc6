"""Parameters as papers count them whose selections of channels sit behind whole batch norms."""

from collections.abc import Mapping

from pruning_lit.channels import ChannelGraph, cost_of_widths


def params_with_whole_norms(
    graph: ChannelGraph, widths: Mapping[str, int] | None = None, count_selections: bool = False
) -> int:
    """Count the parameters of a network, narrowed or not, as if its selections came after their batch norms.

    Here a selection sits in front of its batch norm, which is narrowed with it. In the published networks it sits
    behind, so that the batch norm keeps a scale and a shift for every channel of the stream. Only for comparison
    with their tables; what a network really holds is ``cost(…).params``.

    Args:
        graph: as traced.
        widths: channels kept in each group; groups that are not named stay whole.
        count_selections: count one more for every channel of the stream at every selection: the vector of zeros and
            ones that is a parameter in the authors' PyTorch release.

    Returns:
        The number of scalars.

    Source: Liu et al. 2017, "Learning Efficient Convolutional Networks through Network Slimming", tables 1 and 2.
    """
    widths = dict(widths or {})
    streams = {item.tensor: len(item.inputs) for item in graph.relabellings}
    gone, behind = dict(streams), {}
    for group in graph.groups:
        for selection in (piece.tensor for piece in group.slices if piece.role == "writes" and piece.tensor in streams):
            gone[selection] -= widths.get(group.name, group.size)
            behind[selection] = sum(s.role == "along" and s.tensor in graph.shapes for s in group.slices)
    norms = sum(gone[selection] * parameters for selection, parameters in behind.items())  # scales and shifts
    vectors = sum(streams[selection] for selection in behind) if count_selections else 0
    return cost_of_widths(graph, widths).params + norms + vectors

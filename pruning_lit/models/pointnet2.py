"""PointNet++ in the sizes of the paper and of the public PyTorch version, for classification and part segmentation."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Literal

from pruning_lit.models.pointnet2_networks import Level, PointNet2Classifier, PointNet2PartSegmentation
from pruning_lit.models.set_abstraction import FirstCentre

Scales = Literal["single", "multi"]
# of both set abstractions: a number, or one for each scale
Radii = Sequence[float | Sequence[float]]
Neighbours = Sequence[int | Sequence[int]]

ONE_SCALE = (Level((0.2,), (32,), ((64, 64, 128),), 512), Level((0.4,), (64,), ((128, 128, 256),), 128))
THREE_WIDTHS = ((32, 32, 64), (64, 64, 128), (64, 96, 128))
CLASSIFICATION = {
    "single": ONE_SCALE,
    "multi": (
        Level((0.1, 0.2, 0.4), (16, 32, 128), THREE_WIDTHS, 512),
        Level((0.2, 0.4, 0.8), (32, 64, 128), ((64, 64, 128), (128, 128, 256), (128, 128, 256)), 128),
    ),
}
PARTS = {
    "single": ONE_SCALE,
    "multi": (
        Level((0.1, 0.2, 0.4), (32, 64, 128), THREE_WIDTHS, 512),
        Level((0.4, 0.8), (64, 128), ((128, 128, 256), (128, 196, 256)), 128),
    ),
}
WHOLE = (256, 512, 1024)


def pointnet2_cls(
    num_classes: int = 40,
    scales: Scales = "single",
    normals: bool = False,
    width: float = 1.0,
    centres: Sequence[int] = (512, 128),
    radii: Radii | None = None,
    neighbours: Neighbours | None = None,
    norm_scale: float = 1.0,
    first_centre: FirstCentre = "random",
) -> PointNet2Classifier:
    """PointNet++ that classifies clouds: with 40 classes 1,475,688 parameters, with several scales 1,747,368.

    Args:
        num_classes: width of the output.
        scales: ``single``: one ball for each centre (SSG); ``multi``: three of them (MSG).
        normals: clouds are ``(B, N, 6)``, with normals, else ``(B, N, 3)``.
        width: channels of all layers, as a share of the paper's.
        centres: points that are left after the first set abstraction, and after the second.
        radii: of the balls of both, each a number, or one for each scale; None: the paper's, for clouds in the unit
            ball.
        neighbours: points in each ball at most, in the same form; None: the paper's.
        norm_scale: where the scales of the batch norms start.
        first_centre: in training, ``random``: the first centre of every cloud is drawn; ``first``: it is the first
            point, as in evaluation.

    Raises:
        ValueError: there are no such scales, or sizes do not fit them.

    Source: Qi et al. 2017, "PointNet++: Deep Hierarchical Feature Learning on Point Sets in a Metric Space", appendix
    B; the dropout and the sizes of the scales are those of the public PyTorch version.
    """
    levels = _levels(CLASSIFICATION, scales, width, centres, radii, neighbours, first_centre)
    return PointNet2Classifier(
        levels=levels,
        whole=_scaled(WHOLE, width),
        hidden=(_scaled((512,), width)[0], _scaled((256,), width)[0]),
        dropout=(0.4, 0.4) if scales == "single" else (0.4, 0.5),
        num_classes=num_classes,
        normals=normals,
        norm_scale=norm_scale,
        first_centre=first_centre,
    )


def pointnet2_part_seg(
    num_parts: int = 50,
    num_categories: int = 16,
    scales: Scales = "single",
    normals: bool = False,
    width: float = 1.0,
    centres: Sequence[int] = (512, 128),
    radii: Radii | None = None,
    neighbours: Neighbours | None = None,
    norm_scale: float = 1.0,
    first_centre: FirstCentre = "random",
) -> PointNet2PartSegmentation:
    """PointNet++ that tells the parts of clouds: with 50 parts 1,411,250 parameters, with several scales 1,740,958.

    It takes clouds and their categories, int64 ``(B,)``, and gives logits ``(B, num_parts, N)``.

    Args:
        num_parts: parts of all categories.
        num_categories: number of categories.
        scales: ``single``: one ball for each centre (SSG); ``multi``: three of them, then two (MSG).
        normals: as in ``pointnet2_cls``, as are all that follow.
        width: channels of all layers, as a share of the paper's.
        centres: points that are left after the first set abstraction, and after the second.
        radii: of the balls of both.
        neighbours: points in each ball at most.
        norm_scale: where the scales of the batch norms start.
        first_centre: ``random`` or ``first``, in training.

    Raises:
        ValueError: there are no such scales, or sizes do not fit them.

    Source: as ``pointnet2_cls``.
    """
    levels = _levels(PARTS, scales, width, centres, radii, neighbours, first_centre)
    finest = (128, 128, 128) if scales == "single" else (128, 128)
    return PointNet2PartSegmentation(
        levels=levels,
        whole=_scaled(WHOLE, width),
        propagation=[_scaled(each, width) for each in ((256, 256), (256, 128), finest)],
        hidden=_scaled((128,), width)[0],
        num_parts=num_parts,
        num_categories=num_categories,
        normals=normals,
        norm_scale=norm_scale,
        first_centre=first_centre,
    )


def _levels(
    sizes: dict[str, tuple[Level, Level]],
    scales: str,
    width: float,
    centres: Sequence[int],
    radii: Radii | None,
    neighbours: Neighbours | None,
    first_centre: str,
) -> tuple[Level, Level]:
    """The sizes of both set abstractions, with what is given in the place of the paper's."""
    if scales not in sizes:
        raise ValueError(f"arch.scales must be 'single' or 'multi', got {scales!r}")
    if first_centre not in ("random", "first"):
        raise ValueError(f"arch.first_centre must be 'random' or 'first', got {first_centre!r}")
    if not width > 0:
        raise ValueError(f"arch.width must be above 0, got {width}")
    given = {"centres": centres, "radii": radii, "neighbours": neighbours}
    for name, values in given.items():
        if values is not None and (len(values) != 2 or not all(each > 0 for each in _flat(values))):
            raise ValueError(f"arch.{name} must be two values above 0, one for each set abstraction, got {values}")
    first, second = (
        replace(
            level,
            num_centres=centres[number],
            radii=level.radii if radii is None else _flat([radii[number]]),
            neighbours=level.neighbours if neighbours is None else _flat([neighbours[number]]),
            widths=tuple(_scaled(each, width) for each in level.widths),
        )
        for number, level in enumerate(sizes[scales])
    )
    for level in (first, second):
        for name, numbers in (("radii", level.radii), ("neighbours", level.neighbours)):
            if len(numbers) != len(level.widths):
                raise ValueError(
                    f"arch.{name} must be one for each of the {len(level.widths)} scales of arch.scales={scales}, "
                    f"got {given[name]}"
                )
    return first, second


def _flat(values: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(each for value in values for each in (value if isinstance(value, Sequence) else (value,)))


def _scaled(widths: Sequence[int], width: float) -> tuple[int, ...]:
    return tuple(max(1, round(width * each)) for each in widths)

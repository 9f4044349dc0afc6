"""Criteria that look at feature maps as images are refused where these are none."""

import pytest

from pruning_lit.criteria import ChannelIndependence, ColumnSubset, Magnitude, RedundancyGraph, SpatialInformation
from pruning_lit.tasks import Classification, PartSegmentation, PointClassification


@pytest.mark.parametrize("task", [PointClassification, PartSegmentation])
@pytest.mark.parametrize("criterion", [SpatialInformation(), RedundancyGraph()])
def test_pixels_are_not_looked_for_in_point_clouds(criterion, task):
    criterion.require_task(Classification)
    with pytest.raises(ValueError, match=rf"{type(criterion).__name__} looks at feature maps as images, and those of"):
        criterion.require_task(task)


@pytest.mark.parametrize("criterion", [ChannelIndependence(), ColumnSubset(), Magnitude()])
def test_what_does_not_depend_on_neighbours_is_taken_for_point_clouds(criterion):
    criterion.require_task(PointClassification)

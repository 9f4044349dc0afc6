"""Set abstraction and feature propagation against the golden layers, and what they do not depend on."""

import torch

from pruning_lit.models.feature_propagation import FeaturePropagation
from pruning_lit.models.set_abstraction import GlobalAbstraction, SetAbstraction
from tests.models.pointnet_golden import fill, golden

EXACT = {"rtol": 0, "atol": 1e-10}


@torch.no_grad()
def test_features_of_one_scale_are_the_golden_ones():
    vectors = golden("set_abstraction")
    layer = SetAbstraction(vectors["count"], [vectors["radius"]], [vectors["nsample"]], 5, [[8, 6, 10]])
    fill(layer)
    centres, features = layer(vectors["xyz"], vectors["features"].mT)
    torch.testing.assert_close(centres.mT, vectors["ssg_centres"], **EXACT)
    torch.testing.assert_close(features, vectors["ssg_out"], **EXACT)


@torch.no_grad()
def test_features_of_several_scales_are_the_golden_ones():
    vectors = golden("set_abstraction")
    radii, neighbours = vectors["msg_radii"].tolist(), vectors["msg_nsamples"].tolist()
    layer = SetAbstraction(vectors["count"], radii, neighbours, 5, [[4, 6], [6, 8], [8, 8, 9]])
    fill(layer)
    torch.testing.assert_close(layer(vectors["xyz"], vectors["features"].mT)[1], vectors["msg_out"], **EXACT)


@torch.no_grad()
def test_features_of_the_whole_cloud_are_the_golden_ones():
    vectors = golden("set_abstraction")
    layer = GlobalAbstraction(5, [8, 12])
    fill(layer)
    torch.testing.assert_close(layer(vectors["xyz"], vectors["features"].mT), vectors["all_out"], **EXACT)


@torch.no_grad()
def test_features_are_propagated_as_the_golden_ones():
    vectors = golden("feature_propagation")
    points, skip, centres, features = (vectors[key] for key in ("xyz", "features", "centres", "centre_features"))
    cases = {
        "out": ([9, 7], centres, skip.mT, features.mT),
        "out_from_one": ([9, 7], centres[:, :1], skip.mT, vectors["one_feature"].mT),
        "out_without_skip": ([7], centres, None, features.mT),
    }
    for name, (widths, coarse, joined, values) in cases.items():
        layer = FeaturePropagation(values.shape[1] + (0 if joined is None else joined.shape[1]), widths)
        fill(layer)
        torch.testing.assert_close(layer(points, coarse, joined, values), vectors[name], **EXACT)


@torch.no_grad()
def test_features_do_not_depend_on_where_the_cloud_is():
    torch.manual_seed(0)
    layer = SetAbstraction(16, [0.8], [8], 0, [[6, 8]]).double().eval()
    points = torch.randn(2, 60, 3, dtype=torch.float64)
    shift = torch.tensor([2.0, -1.0, 0.5], dtype=torch.float64)
    (here, features), (there, shifted) = layer(points, None), layer(points + shift, None)
    torch.testing.assert_close(there, here + shift)
    torch.testing.assert_close(shifted, features)


def test_the_first_centre_is_drawn_in_training_alone():
    torch.manual_seed(0)
    points = torch.randn(1, 60, 3)
    drawn = SetAbstraction(4, [0.8], [8], 0, [[6]])
    starts = {tuple(drawn(points, None)[0][0, 0].tolist()) for _ in range(8)}
    assert len(starts) > 1
    for layer in (drawn.eval(), SetAbstraction(4, [0.8], [8], 0, [[6]], first_centre="first")):
        assert torch.equal(layer(points, None)[0][:, 0], points[:, 0])

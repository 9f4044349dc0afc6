"""The section on point clouds: what it tells, and what is drawn."""

import copy
import json

import numpy as np
import pytest
import torch

from pruning_lit.channels import narrow, trace
from pruning_lit.criteria import Magnitude
from pruning_lit.criteria.base import Scoring
from pruning_lit.data import Shapes10, Shapes10Parts
from pruning_lit.models import pointnet, pointnet2_cls, pointnet2_part_seg
from pruning_lit.models.sampling import Sampling
from pruning_lit.reports.clouds import NUM_CLOUDS, CloudsSection, seen_clouds
from pruning_lit.reports.plots import figure_to_image
from pruning_lit.sparsity import Uniform
from pruning_lit.tasks import PartSegmentation, PointClassification, evaluate

SMALL = {"width": 0.1, "centres": (16, 4), "radii": (0.4, 0.8), "neighbours": (8, 4)}


@pytest.fixture(scope="module", params=["classes", "parts"])
def looked_at(request):
    parts = request.param == "parts"
    data = (Shapes10Parts if parts else Shapes10)(batch_size=7, num_points=64, num_train=20, num_test=30)
    data.setup()
    torch.manual_seed(0)
    net = pointnet2_part_seg(24, 10, **SMALL) if parts else pointnet2_cls(10, **SMALL)
    task = PartSegmentation(24, data.categories) if parts else PointClassification(10)
    graph = trace(net, data.example)
    pruned = copy.deepcopy(net)
    scores = Magnitude().scores(Scoring(net, graph, list(graph.prunable)))
    narrow(pruned, graph, Uniform(0.5).kept(graph, scores))
    metrics = evaluate(net, data, task), evaluate(pruned, data, task)
    nets, graphs = (net, pruned), (graph, trace(pruned, data.example))
    return CloudsSection.of(task, data, nets, graphs, metrics, trained=True), task, data, nets


def test_the_text_has_all_metrics_and_the_latency_of_sampling_and_the_data_are_plain(looked_at):
    section, task, *_ = looked_at
    text = section.markdown("clouds.png")
    for name in task.metric_names():
        assert section.data()["metrics"][name].keys() == {"before", "after"}
    assert text.count("\n| ") >= len(task.metric_names())
    assert "![test clouds" in text
    assert "which no pruning" in text
    assert json.loads(json.dumps(section.data())) == section.data()
    before, after = section.data()["without_sampling_ms"].values()
    latency = section.data()["one_cloud"]
    assert before == pytest.approx(latency["before"]["median_ms"] - latency["sampling"]["median_ms"])
    assert 0 <= after < latency["after"]["median_ms"]


def test_clouds_are_of_different_objects_with_what_the_networks_say(looked_at):
    section, _, data, nets = looked_at
    assert len(section.clouds) == NUM_CLOUDS
    for number, cloud in enumerate(section.clouds):
        assert torch.equal(cloud.points, data.parts.test.points[number])  # the first eight are of eight objects
        assert [*cloud.told] == ["annotated", "before", "after"]
        with torch.no_grad():
            points, kind = cloud.points[None], torch.tensor([number])
            told = nets[1].eval()(points, kind) if data.with_parts else nets[1].eval()(points)
        if data.with_parts:
            own = data.categories[data.classes[int(cloud.told["annotated"].max())].split()[0]]
            assert set(cloud.told["after"].tolist()) <= set(own)
            assert cloud.told["after"].tolist() == (told[0, own].argmax(0) + own[0]).tolist()
        else:
            assert int(cloud.told["annotated"]) == number
            assert int(cloud.told["after"]) == int(told.argmax())


def test_the_picture_shows_every_cloud(looked_at):
    section, _, data, _ = looked_at
    figure = section.figure()
    panels = len(section.clouds) * (3 if data.with_parts else 1)
    assert len(figure.axes) == panels
    image = figure_to_image(figure)
    assert (np.asarray(image) < 200).mean() > 0.003


def test_a_network_that_was_never_trained_is_not_shown(looked_at):
    _, task, data, nets = looked_at
    graphs = (None, None)
    section = CloudsSection.of(task, data, nets, graphs, (None, evaluate(nets[1], data, task)), trained=False)
    assert [*section.clouds[0].told] == ["annotated", "after"]
    assert all(before is None for before, _ in section.metrics.values())
    assert section.figure() is not None


def test_without_clouds_there_is_no_picture(looked_at):
    section, *_ = looked_at
    assert CloudsSection(section.metrics, section.timings, None, 20, section.classes).figure() is None


def test_sampling_ends_at_the_centres_of_the_network_and_a_network_without_is_not_told_of():
    net, clouds = pointnet2_cls(10, **SMALL).eval(), torch.randn(2, 64, 3)
    centres, _ = net.sa2(*net.sa1(clouds, None))
    assert torch.equal(Sampling(net)(clouds), centres)
    assert Sampling.is_done_by(net)
    data = Shapes10(batch_size=7, num_points=64, num_train=20, num_test=10)
    data.setup()
    plain = pointnet(10, width=0.05)
    metrics = evaluate(plain, data, PointClassification(10))
    section = CloudsSection.of(
        PointClassification(10), data, (plain, plain), (None, None), (metrics, metrics), trained=True
    )
    assert section.sampling is None
    assert "no pruning" not in section.markdown(None)
    assert [*seen_clouds(PointClassification(10), data, {"x": plain})[0].told] == ["annotated", "x"]

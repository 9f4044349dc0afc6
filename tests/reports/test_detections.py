"""The section on a detector: what it tells, and what is drawn."""

import copy
import json

import pytest
import torch

from pruning_lit.channels import cost, narrow, trace
from pruning_lit.criteria import Magnitude
from pruning_lit.criteria.base import Scoring
from pruning_lit.data import CocoShapes
from pruning_lit.models import maskrcnn_small, ssd_small
from pruning_lit.reports.detections import NUM_IMAGES, DetectionsSection, draw
from pruning_lit.reports.plots import figure_to_image
from pruning_lit.sparsity import Uniform
from pruning_lit.tasks import Detection, InstanceSegmentation, evaluate


@pytest.fixture(scope="module", params=["boxes", "masks"])
def looked_at(request):
    masks = request.param == "masks"
    data = CocoShapes(batch_size=4, num_train=4, num_test=8, masks=masks)
    data.setup()
    torch.manual_seed(0)
    net = maskrcnn_small(5, image_size=64, width=4) if masks else ssd_small(5, width=4)
    task = (InstanceSegmentation if masks else Detection)(5)
    example = task.view_example(net, data.example)
    graph = trace(task.view(net), example)
    pruned = copy.deepcopy(net)
    scores = Magnitude().scores(Scoring(net, graph, list(graph.prunable)))
    narrow(task.view(pruned), graph, Uniform(0.5).kept(graph, scores))
    after = trace(task.view(pruned), example)
    metrics = evaluate(net, data, task), evaluate(pruned, data, task)
    section = DetectionsSection.of(task, data, (net, pruned), (graph, after), metrics, trained=True)
    return section, graph, after, task


def test_parts_add_up_to_the_network(looked_at):
    section, before, after, _ = looked_at
    for at, graph in enumerate((before, after)):
        assert sum(part.macs[at] for part in section.parts) == cost(graph).macs
        # norms outside of layers' own modules are in no part
        assert sum(part.params[at] for part in section.parts) <= cost(graph).params
    assert all(part.macs[1] <= part.macs[0] for part in section.parts)
    assert "backbone" in section.parts[0].name


def test_the_text_has_all_metrics_and_the_data_are_plain(looked_at):
    section, *_, task = looked_at
    text = section.markdown("detections.png")
    for name in task.metric_names():
        assert name in section.data()["metrics"]
    for words in ("| AP50 |", "| AP small |", "Latency of the whole detector", "(detections.png)", "`backbone."):
        assert words in text
    assert ("| mask AP75 |" in text) == task.masks
    json.dumps(section.data())
    assert "![" not in section.markdown(None)


def test_the_page_shows_the_annotations_and_both_networks(looked_at):
    section, *_ = looked_at
    assert 1 <= len(section.pages) <= NUM_IMAGES
    assert list(section.pages[0].objects) == ["annotated", "before", "after"]
    assert all(len(page.objects["annotated"]["boxes"]) for page in section.pages)
    assert figure_to_image(section.figure()).std() > 10


def test_a_box_is_drawn_where_it_is_with_its_name():
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    masks = torch.zeros(1, 20, 30)
    masks[0, 4:8, 10:15] = 1
    objects = {
        "boxes": torch.tensor([[10.0, 4.0, 15.0, 8.0]]), "labels": torch.tensor([2]), "scores": torch.tensor([0.75]),
        "masks": masks,
    }  # fmt: skip
    draw(axes, torch.zeros(3, 20, 30), objects, ["background", "disc", "ring"])
    (box,) = axes.patches
    assert (box.get_x(), box.get_y(), box.get_width(), box.get_height()) == (9.5, 3.5, 5.0, 4.0)
    assert [text.get_text() for text in axes.texts] == ["ring 0.75"]
    drawn = axes.images[0].get_array()
    assert (drawn.sum(2) > 0).nonzero()[0].min() == 4
    assert (drawn[..., 0] > 0).sum() == 20  # the mask's pixels

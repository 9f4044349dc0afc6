"""Detection and instance segmentation: losses of the network itself, boxes at the size of the original."""

import copy

import pytest
import torch
from torch import nn
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import MultiScaleRoIAlign

from pruning_lit.channels import trace
from pruning_lit.criteria import ChannelIndependence, Taylor
from pruning_lit.criteria.base import Scoring
from pruning_lit.data import CocoShapes
from pruning_lit.models import ssd_small
from pruning_lit.tasks import Detection, InstanceSegmentation
from pruning_lit.tasks.base import total
from pruning_lit.tasks.detection import at_original_size, giving_losses

CLASSES = 5


def small_detector(kind=FasterRCNN, num_classes=CLASSES):
    torch.manual_seed(0)
    body = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=4, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 12, 3, 2, 1), nn.ReLU()
    )
    body.out_channels = 12
    pools = {"box_roi_pool": MultiScaleRoIAlign(["0"], 3, 2)}
    if kind is MaskRCNN:
        pools["mask_roi_pool"] = MultiScaleRoIAlign(["0"], 6, 2)
    return kind(
        body, num_classes, min_size=64, max_size=64, rpn_anchor_generator=AnchorGenerator(((16, 32),), ((1.0,),)),
        box_detections_per_img=5, rpn_post_nms_top_n_test=20, **pools,
    )  # fmt: skip


@pytest.fixture(scope="module")
def shapes():
    data = CocoShapes(batch_size=4, num_train=12, num_test=6, masks=True)
    data.setup()
    return data


def batch_of(data):
    (batch,) = data.calibration(4, seed=0, batch_size=4)
    return batch


def test_a_step_has_the_losses_of_the_network(shapes):
    task, net = Detection(CLASSES), small_detector().train()
    images, targets = batch_of(shapes)
    torch.manual_seed(1)
    outputs = task.outputs(net, (images, targets))
    torch.manual_seed(1)
    assert task.losses(outputs, targets, training=True) == net(images, targets)
    assert {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"} == outputs.keys()
    assert task.size((images, targets)) == 4


def test_evaluation_has_detections_and_no_loss(shapes):
    task, net = InstanceSegmentation(CLASSES), small_detector(MaskRCNN).eval()
    images, targets = batch_of(shapes)
    with torch.no_grad():
        outputs = task.outputs(net, (images, targets))
    assert len(outputs) == 4
    assert all(found["masks"].shape == (len(found["boxes"]), 64, 64) for found in outputs)
    assert task.losses(outputs, targets, training=False) == {}
    metrics = task.metrics("val/", over_ranks=False)
    task.update(metrics, outputs, targets)
    assert list(metrics.compute()) == [f"val/{name}" for name in task.metric_names()]
    assert not task.train_metrics("train/").compute()
    assert task.changed(outputs, outputs) == 0


def test_detections_in_a_resized_image_lie_where_they_are_in_the_original():
    masks = torch.zeros(1, 1, 20, 40)
    masks[0, 0, 5:10, 10:30] = 1.0
    found = {"boxes": torch.tensor([[10.0, 5, 30, 10]]), "labels": torch.tensor([1]), "masks": masks}
    there = at_original_size(found, (20, 40), {"size": torch.tensor([40, 120])})
    assert there["boxes"].tolist() == [[30.0, 10.0, 90.0, 20.0]]
    rows, columns = there["masks"][0].nonzero().aminmax(dim=0)
    assert there["masks"].shape == (1, 40, 120)
    assert (torch.stack([rows, columns]).float() - torch.tensor([[10.0, 30], [19, 89]])).abs().max() <= 1
    same = at_original_size(found, (20, 40), {})
    assert torch.equal(same["boxes"], found["boxes"])
    assert torch.equal(same["masks"], masks[:, 0] > 0.5)


def test_other_objects_or_other_places_are_changes():
    found = {"boxes": torch.tensor([[10.0, 5, 30, 10]]), "labels": torch.tensor([1])}
    moved = {**found, "boxes": found["boxes"] + 1}
    nearly = {**found, "boxes": found["boxes"] + 0.1}
    renamed = {**found, "labels": torch.tensor([2])}
    none = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    before = [found] * 4 + [none]
    assert Detection(CLASSES).changed(before, [nearly, moved, renamed, none, none]) == 3


def test_a_loss_in_evaluation_goes_by_the_averages_of_norms_and_is_the_same_every_time(shapes):
    task, net = Detection(CLASSES), small_detector().eval()
    for buffer in net.buffers():
        if buffer.is_floating_point():
            buffer.add_(0.3)
    before = copy.deepcopy(net.state_dict())
    losses = [task.loss(net, batch_of(shapes), training=False) for _ in range(2)]
    assert losses[0] == losses[1]
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert not any(module.training for module in net.modules())
    with giving_losses(net):
        assert net.training
        assert not net.backbone[1].training
    with torch.no_grad():
        net.backbone[1].running_mean.add_(1.0)
    assert not torch.equal(total(task.loss(net, batch_of(shapes), training=False)), total(losses[0]))


def test_taylor_scores_a_detector_by_its_losses(shapes):
    task, net = Detection(CLASSES), small_detector().eval()
    graph = trace(task.view(net), task.view_example(net, shapes.example))
    scoring = Scoring(net, graph, list(graph.prunable), shapes, task)
    scores = Taylor(num_images=4, batch_size=4).scores(scoring)
    assert scores.keys() == {group.name for group in graph.prunable}
    assert {"backbone.0", "roi_heads.box_head.fc6"} <= scores.keys()
    assert all(bool((each > 0).any()) for each in scores.values())


def test_maps_do_not_depend_on_what_else_is_in_a_batch(shapes):
    task, net = Detection(CLASSES), small_detector().train()
    images = [torch.rand(3, 64, 30), torch.rand(3, 40, 64)]
    state = torch.get_rng_state()
    parts = task.view_inputs(net, images)
    assert torch.equal(torch.get_rng_state(), state)  # a detector in training draws the size
    assert net.transform.training
    assert [len(part) for part in parts] == [1, 1]
    for image, part in zip(images, parts, strict=True):
        assert torch.equal(part, task.view_inputs(net, [image])[0])
    (together,) = task.view_inputs(net, [images[0]] * 3)
    assert len(together) == 3


def test_what_does_not_fit_is_told_in_one_sentence(shapes):
    boxes_only = CocoShapes(batch_size=4, num_train=12, num_test=6)
    boxes_only.setup()
    with pytest.raises(ValueError, match=r"set dataset\.masks=true"):
        InstanceSegmentation(CLASSES).require_fit(small_detector(MaskRCNN), boxes_only)
    with pytest.raises(ValueError, match=r"and no \['masks'\].*task=detection"):
        InstanceSegmentation(CLASSES).require_fit(small_detector(), shapes)
    with pytest.raises(ValueError, match="tells 91 classes apart, the data set has 5"):
        Detection(CLASSES).require_fit(small_detector(num_classes=91), shapes)
    with pytest.raises(ValueError, match="a list of dictionaries"):
        Detection(CLASSES).require_outputs(torch.zeros(2, 5), None)
    with pytest.raises(
        ValueError, match=r"does not take a list of images, .* choose a detector, such as arch=ssd300_r"
    ):
        Detection(CLASSES).require_fit(torch.nn.Conv2d(3, 4, 1), shapes)
    Detection(CLASSES).require_fit(small_detector(), shapes)


def test_maps_of_batches_of_any_size_are_found(shapes):
    task, net = Detection(CLASSES), small_detector(MaskRCNN).eval()
    graph = trace(task.view(net), task.view_example(net, shapes.example))
    scoring = Scoring(net, graph, [group for group in graph.prunable if group.feature_maps], shapes, task)
    alone, together = (ChannelIndependence(num_images=3, batch_size=size).scores(scoring) for size in (1, 3))
    assert alone.keys() == {group.name for group in scoring.groups}
    for name, scores in alone.items():
        torch.testing.assert_close(scores, together[name], rtol=1e-3, atol=1e-3)


def test_a_precision_that_rounds_anchors_is_refused():
    task, own = Detection(CLASSES), ssd_small(CLASSES, width=4)
    with pytest.raises(ValueError, match=r"bf16 rounds them by several pixels: choose 16-mixed"):
        task.require_precision(small_detector(), "bf16-mixed")
    for net, precision in ((own, "bf16-mixed"), (small_detector(), "16-mixed"), (small_detector(), "32-true")):
        task.require_precision(net, precision)
    anchors = AnchorGenerator(((512,),), ((1.0,),))
    maps = torch.zeros(1, 1, 12, 12)
    images = ImageList(torch.zeros(1, 3, 804, 804), [(804, 804)])
    exact, rounded = (anchors(images, [maps.to(dtype)])[0].float() for dtype in (torch.float32, torch.bfloat16))
    assert (exact - rounded).abs().max() >= 1  # pixels: the reason

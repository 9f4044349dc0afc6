"""Batches of detection data, fetched and compared."""

from itertools import chain
from types import SimpleNamespace
from typing import Any

import torch

from pruning_lit.data import DetectionData
from pruning_lit.data.detection import DetectionBatch


def on_rank(data: DetectionData, rank: int = 0, world_size: int = 1) -> Any:
    """The data set as a process of several has it."""
    convert = SimpleNamespace(convert_input=lambda images: images)
    data.trainer = SimpleNamespace(global_rank=rank, world_size=world_size, precision_plugin=convert)
    return data


def epoch(data: DetectionData, number: int = 0) -> list[DetectionBatch]:
    """The training batches of an epoch."""
    loader = data.train_dataloader()
    loader.sampler.set_epoch(number)
    return [data.on_after_batch_transfer(batch, 0) for batch in loader]


def joined(batches) -> DetectionBatch:
    """Some batches as one."""
    images, targets = zip(*batches, strict=True)
    return [*chain(*images)], [*chain(*targets)]


def evaluated(data: DetectionData, loader) -> DetectionBatch:
    """All images and targets of a part as one batch."""
    return joined(data.on_after_batch_transfer(batch, 0) for batch in loader)


def assert_alike(one: DetectionBatch, other: DetectionBatch) -> None:
    """Two batches have the same images and targets."""
    for image, same in zip(one[0], other[0], strict=True):
        assert torch.equal(image, same)
    for target, same in zip(one[1], other[1], strict=True):
        assert target.keys() == same.keys()
        assert all(torch.equal(target[key], same[key]) for key in target)


def resumed(data: DetectionData, number: int, finished: int) -> list[DetectionBatch]:
    """The batches of an epoch behind those that were finished before it was interrupted."""
    loader = data.train_dataloader()
    place = {"num_pictures": data.num_training, "global_batch": data.batch_size, "seed": data.seed, "stream": 0}
    loader.load_state_dict({"epoch": number, "finished": finished, **place})
    return [data.on_after_batch_transfer(batch, 0) for batch in loader]

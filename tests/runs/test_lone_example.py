import pytest
import torch
from pytorch_lightning import LightningDataModule
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

from pruning_lit.data import CustomData
from pruning_lit.runs.lone_example import require_no_lone_example, smallest_batch
from tests.data.small_images import noise

NORM_OF_PIXELS = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(4), nn.Flatten())
NORM_OF_MAPS = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.mark.parametrize(
    ("settings", "processes", "limit", "smallest"),
    [
        ({"batch_size": 7}, 1, 1.0, 1),  # 22 images: 7, 7, 7, 1
        ({"batch_size": 7, "drop_last": True}, 1, 1.0, 7),
        ({"batch_size": 7}, 1, 3, 7),
        ({"batch_size": 7}, 1, 4, 1),
        ({"batch_size": 7}, 1, 0.5, 7),
        ({"batch_size": 5}, 1, 1.0, 2),
        ({"batch_size": 5}, 2, 1.0, 1),  # 10, 10, 2
        ({"batch_size": 7}, 3, 1.0, 7),  # 21, and 1 that is left out
        ({"batch_size": 11}, 1, 1.0, 11),
        ({"batch_size": 30}, 1, 1.0, 22),
    ],
)
def test_the_smallest_batch_is_that_of_the_loader(settings, processes, limit, smallest):
    data = noise(**settings)
    assert smallest_batch(data, processes, limit) == smallest
    if processes == 1:
        sizes = [len(targets) for _, targets, _ in data.train_dataloader()]
        assert min(sizes[: limit if isinstance(limit, int) else round(len(sizes) * limit)]) == smallest


def test_a_single_image_in_the_last_batch_is_refused_with_what_to_do():
    with pytest.raises(
        ValueError,
        match=r"last batch of an epoch \(22 images, 7 in a batch\) has a single image, .* \(2: .*\): set "
        r"dataset.drop_last=true, .* or another dataset.batch_size",
    ):
        require_no_lone_example(NORM_OF_PIXELS, noise(batch_size=7))
    with pytest.raises(ValueError, match=r"^batches have a single image.*: set dataset.batch_size to 2 or more"):
        require_no_lone_example(NORM_OF_PIXELS, noise(batch_size=1))
    with pytest.raises(ValueError, match="a single image per process"):
        require_no_lone_example(NORM_OF_PIXELS, noise(batch_size=5), 2)


def test_what_is_advised_and_what_can_be_trained_passes():
    require_no_lone_example(NORM_OF_PIXELS, noise(batch_size=7, drop_last=True))
    require_no_lone_example(NORM_OF_PIXELS, noise(batch_size=5))
    require_no_lone_example(NORM_OF_PIXELS, noise(batch_size=5), 2, synchronised=True)
    require_no_lone_example(NORM_OF_MAPS, noise(batch_size=7))


def test_nothing_of_the_network_or_the_random_state_changes():
    net = nn.Sequential(NORM_OF_MAPS, nn.Dropout(0.5)).eval()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    random = torch.get_rng_state()
    require_no_lone_example(net, noise(batch_size=7))
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert not any(module.training for module in net.modules())


def test_a_network_that_asks_for_more_in_training_is_left_alone():
    class Detector(nn.Module):
        def forward(self, images, targets=None):
            if self.training and targets is None:
                raise ValueError("targets are needed in training")
            return images

    require_no_lone_example(Detector(), noise(batch_size=7))


class Weighted(LightningDataModule):
    num_classes = 2

    def __init__(self, drop_last):
        super().__init__()
        self.drop_last, self.examples = drop_last, TensorDataset(torch.rand(9, 3, 6, 5), torch.arange(9) % 2)

    def train_dataloader(self):
        return DataLoader(self.examples, 4, sampler=WeightedRandomSampler([1.0] * 9, 9), drop_last=self.drop_last)

    def test_dataloader(self):
        return DataLoader(self.examples, 4)


def test_a_loader_with_an_order_of_its_own_is_counted_too():
    data = CustomData(Weighted(drop_last=False))
    data.setup()
    with pytest.raises(ValueError, match=r"9 images, 4 in a batch.* give the DataLoader for training drop_last=True"):
        require_no_lone_example(NORM_OF_PIXELS, data)
    data = CustomData(Weighted(drop_last=True))
    data.setup()
    require_no_lone_example(NORM_OF_PIXELS, data)


def test_images_are_tried_as_large_as_the_network_is_trained_with():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(14), nn.BatchNorm2d(4), nn.Flatten())
    require_no_lone_example(net, noise(batch_size=7), example=torch.zeros(1, 3, 64, 64))
    with pytest.raises(ValueError, match="a single image"):
        require_no_lone_example(net, noise(batch_size=7), example=torch.zeros(1, 3, 16, 16))

"""What a criterion's choice of channels is worth before any fine-tuning: accuracy right after the cut.

    python benchmarks/criteria_after_cut.py data/cifar10_jpeg data/pretrained/resnet56_cifar10_jpeg.pt

ResNet-56, CHIP's layer rates for 48 % fewer MACs, on one test image in five; also with batch-norm statistics taken
anew from 1,280 training images ("recal"), and with only the inner layers or only the residual streams cut.
"""

import argparse
import copy

import torch
from torch import Tensor, nn

from pruning_lit.channels import narrow, trace
from pruning_lit.criteria import ChannelIndependence, Criterion, Magnitude, Random, Scoring
from pruning_lit.data import ImageFolder
from pruning_lit.models import cifar_resnet, load_weights
from pruning_lit.sparsity import Layerwise

RATES = {
    "all": "[0.]+[0.15]*2+[0.4]*27",
    "inner": "[0.]+[0.]*2+[0.4]*27",
    "streams": "[0.]+[0.15]*2+[0.]*27",
}
CRITERIA: dict[str, Criterion] = {
    **{f"chip{seed}": ChannelIndependence(seed=seed) for seed in (1, 2)},
    "magn": Magnitude(),
    **{f"rand{seed}": Random(seed) for seed in (1, 2, 3, 4)},
}


@torch.no_grad()
def accuracy(net: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> float:
    net.eval()
    right = sum(int((net(images).argmax(1) == target).sum()) for images, target in batches)
    return 100 * right / sum(len(target) for _, target in batches)


@torch.no_grad()
def renew_statistics(net: nn.Module, batches: list[Tensor]) -> None:
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    net.train()
    for images in batches:
        net(images)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", help="image folder with train/ and test/")
    parser.add_argument("weights", help="of a ResNet-56 trained on it")
    arguments = parser.parse_args()
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    data = ImageFolder(root=arguments.root, batch_size=250, mean=mean, std=std, pad=4, flip=True)
    data.setup()
    net = cifar_resnet(56).eval()
    load_weights(net, arguments.weights)
    graph = trace(net, data.example)
    tests = [data.on_after_batch_transfer(batch, 0) for i, batch in enumerate(data.test_batches()) if i % 5 == 0]
    calibration = [images for images, _ in data.calibration(1280, seed=5, augment=True, batch_size=128)]
    print("dense", accuracy(net, tests))
    groups = Layerwise(RATES["all"]).prunable_groups(graph)
    scores = {name: criterion.scores(Scoring(net, graph, groups, data)) for name, criterion in CRITERIA.items()}
    for cut, rates in RATES.items():
        for name in CRITERIA:
            narrowed = copy.deepcopy(net)
            narrow(narrowed, graph, Layerwise(rates).kept(graph, scores[name]))
            after = accuracy(narrowed, tests)
            renew_statistics(narrowed, calibration)
            print(cut, name, round(after, 2), "recal", round(accuracy(narrowed, tests), 2), flush=True)
    one, other = (Layerwise(RATES["all"]).kept(graph, scores[name]) for name in ("chip1", "chip2"))
    shared = sum(len(set(one[name]) & set(other[name])) for name in one)
    print("overlap chip seeds", shared / sum(map(len, one.values())))


if __name__ == "__main__":
    main()

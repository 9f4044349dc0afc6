"""Redundancy graphs: hashing for every pair of filters, as published at first, against ours, in one run.

The published procedure takes every pair of filters, and for every image hashes both maps anew (a two-dimensional
DCT-II, its 8x8 corner of low frequencies, one bit per frequency that reaches their mean) and counts the bits that
agree; the similarity is their share, averaged over images. It is written here from its description, with one
kindness: its graph is not decomposed. Ours is `similarity` and `decompose`, in full. Both sides run in this process on
one thread, on synthetic smooth maps in which some filters resemble each other. Times are CPU time, so that other work
on the machine tells less.

    python benchmarks/redundancy_graph.py [--quick]
"""

import argparse
import datetime
import itertools
import platform
import random
import statistics
import time
from typing import NamedTuple

import numpy as np
import scipy
import scipy.fft
import torch
from torch import Tensor
from torch.nn import functional as F

from pruning_lit.criteria.redundancy_graph.decomposition import decompose, similarity
from pruning_lit.measure.machine import hardware

IMAGES = 100
THRESHOLD = 0.7
SHAPES = [(64, 32, 32), (512, 4, 4), (2048, 7, 7)]  # (C, H, W)

Shape = tuple[int, int, int]


class Effort(NamedTuple):
    """How long to measure: a published loop estimated above `full` seconds is sampled for about `sample` seconds."""

    full: float
    sample: float
    repeats: int


class Published(NamedTuple):
    """Seconds of the whole published loop, over how many of all pairs they were taken, and what these came to."""

    seconds: float
    similarities: dict[tuple[int, int], float]
    num_pairs: int

    def note(self) -> str:
        timed = f"{len(self.similarities) * IMAGES:,} of {self.num_pairs * IMAGES:,} pairs x images"
        return f"extrapolated from {timed}" if len(self.similarities) < self.num_pairs else "run in full"


def smooth_maps(shape: Shape) -> Tensor:
    """Random maps, shape ``(IMAGES, C, H, W)``: a prototype for every four filters, and more or less noise."""
    channels, height, width = shape
    generator = torch.Generator().manual_seed(0)
    prototypes = torch.randint(0, max(1, channels // 4), (channels,), generator=generator)
    noise = 2 * torch.rand(channels, 1, 1, generator=generator)
    maps = torch.empty(IMAGES, channels, height, width)
    for image in maps:
        common = torch.randn(channels, height, width, generator=generator)[prototypes]
        rough = common + noise * torch.randn(channels, height, width, generator=generator)
        image.copy_(F.avg_pool2d(rough, 3, stride=1, padding=1))
    return maps


def hash_of(image: np.ndarray) -> np.ndarray:
    frequencies = scipy.fft.dct(scipy.fft.dct(image, axis=0), axis=1)
    corner = frequencies[:8, :8]
    return corner >= corner.mean()


def similarity_of_pair(maps: np.ndarray, one: int, other: int) -> float:
    shares = []
    for image in maps:
        first, second = hash_of(image[one]), hash_of(image[other])
        shares.append(1 - np.count_nonzero(first != second) / first.size)
    return sum(shares) / len(shares)


def time_published(maps: np.ndarray, effort: Effort) -> Published:
    """All pairs of filters if that is short enough, else a random sample of them."""
    similarity_of_pair(maps, 0, 1)  # the first call loads libraries and is not counted
    pairs = list(itertools.combinations(range(maps.shape[1]), 2))
    random.Random(0).shuffle(pairs)
    start = time.process_time()
    for pair in pairs[:20]:
        similarity_of_pair(maps, *pair)
    estimate = (time.process_time() - start) / 20 * len(pairs)
    chosen = pairs[: max(20, int(effort.sample / estimate * len(pairs)))] if estimate > effort.full else pairs
    start = time.process_time()
    similarities = {pair: similarity_of_pair(maps, *pair) for pair in chosen}
    seconds = time.process_time() - start
    return Published(seconds / len(chosen) * len(pairs), similarities, len(pairs))


def time_ours(maps: Tensor, norms: Tensor, repeats: int) -> tuple[Tensor, list[int], float]:
    similarity(maps[:1, :2])
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        similarities = similarity(maps)
        kept = decompose(similarities, norms, THRESHOLD)
        seconds.append(time.process_time() - start)
    return similarities, kept, statistics.median(seconds)


def report(shape: Shape, effort: Effort) -> None:
    maps = smooth_maps(shape)
    norms = torch.rand(shape[0], generator=torch.Generator().manual_seed(1))
    similarities, kept, ours = time_ours(maps, norms, effort.repeats)
    published = time_published(maps.numpy(), effort)
    difference = max(abs(similarities[pair].item() - value) for pair, value in published.similarities.items())
    print(
        f"| {'x'.join(map(str, shape))} | {published.seconds:,.1f} | {ours:.3g} | {published.seconds / ours:,.0f}x "
        f"| {difference:.1e} | {len(kept)} | {published.note()} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="shorter samples of the published loop, one run of ours")
    args = parser.parse_args()
    effort = Effort(full=2, sample=0.5, repeats=1) if args.quick else Effort(full=60, sample=8, repeats=3)
    torch.set_num_threads(1)
    start = time.perf_counter()
    versions = f"torch {torch.__version__}, SciPy {scipy.__version__}, Python {platform.python_version()}"
    print(f"{datetime.date.today()}, {hardware()}, one thread; {versions}")
    print(f"\nCPU seconds per layer, {IMAGES} images, threshold {THRESHOLD}\n")
    print("| maps | published | ours | ratio | difference | kept | published timed on |")
    print("|---|---|---|---|---|---|---|")
    for shape in SHAPES:
        report(shape, effort)
    print(f"\nbenchmark took {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()

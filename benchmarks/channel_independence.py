"""Channel independence: the released procedure against `pruning_lit.criteria.channel_independence`, in one run.

The released procedure takes a batch of 128 images, and for every image and channel copies the whole batch, blanks that
channel in that image and takes the nuclear norm of the image's matrix by a float32 SVD. It is written here from its
description, with one kindness: the copies go into one buffer. A new tensor per copy, as released (`--new-tensors`),
costs up to six times as much for large batches and varies with the state of the allocator. Both sides run in this
process on one thread, on synthetic ReLU maps with decaying spectra at the shapes that ResNet-56 (CIFAR-10) and
ResNet-50 (ImageNet) score.

    python benchmarks/channel_independence.py [--quick] [--new-tensors]
"""

import argparse
import datetime
import platform
import random
import resource
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from pruning_lit.criteria.channel_independence import channel_independence

BATCH = 128  # images per batch of the released procedure: what it copies for every norm
SCORED = 640  # images it averages over
MEMORY_LIMIT = 2 * 2**30  # bytes

Shape = tuple[int, int, int]

# Scored maps (C, H, W) and how many layers have them. At a stage's entry the inner layers differ: CIFAR ResNets stride
# in the first convolution, so its map has the new resolution; ResNet-50 in the second, so the first one's has the old.
NETWORKS: dict[str, dict[Shape, int]] = {
    "ResNet-56": {(16, 32, 32): 1 + 9 + 9, (32, 16, 16): 9 + 9, (64, 8, 8): 9 + 9},
    "ResNet-50": {
        (64, 56, 56): 1 + 3 + 3,
        (256, 56, 56): 3 + 1,
        (128, 56, 56): 1,
        (128, 28, 28): 3 + 4,
        (512, 28, 28): 4 + 1,
        (256, 28, 28): 1,
        (256, 14, 14): 5 + 6,
        (1024, 14, 14): 6 + 1,
        (512, 14, 14): 1,
        (512, 7, 7): 2 + 3,
        (2048, 7, 7): 3 + 1,
    },
}


class Effort(NamedTuple):
    """How long to measure: a released loop estimated above `full` seconds is sampled for about `sample` seconds."""

    full: float
    sample: float
    repeats: int
    new_tensors: bool


class Timing(NamedTuple):
    """Seconds per image, and what the scores of the timed channels disagree by, relative to the nuclear norm."""

    published: float
    without_copies: float
    ours: float
    difference: float
    pairs: int  # (image, channel) pairs of the released loop that were run

    def is_sampled(self, shape: Shape) -> bool:
        return self.pairs < BATCH * shape[0]


class Norm(NamedTuple):
    """One nuclear norm of the released loop: its value, and the seconds taken by the copy and by the decomposition."""

    value: float
    copying: float
    decomposing: float


def relu_maps(shape: Shape) -> Tensor:
    """A batch of ReLU maps whose singular values decay like those of trained networks."""
    channels, height, width = shape
    rank = min(channels, height * width)
    generator = torch.Generator().manual_seed(0)
    decay = torch.arange(1, rank + 1) ** -0.7
    maps = torch.empty(BATCH, channels, height * width)
    for image in maps:
        left = torch.randn(channels, rank, generator=generator) * decay
        image.copy_(left @ torch.randn(rank, height * width, generator=generator)).relu_()
    return maps.unflatten(2, (height, width))


def blanked_norm(batch: Tensor, buffer: Tensor | None, image: int, channel: int) -> Norm:
    start = time.perf_counter()
    copy = batch.clone() if buffer is None else buffer.copy_(batch)
    copied = time.perf_counter()
    copy[image, channel] = 0.0
    value = torch.linalg.matrix_norm(copy[image].flatten(1), ord="nuc").item()
    return Norm(value, copied - start, time.perf_counter() - copied)


def timed_pairs(batch: Tensor, effort: Effort) -> dict[tuple[int, int], Norm]:
    """Blanked norms of all (image, channel) pairs if that is short enough, else of a random sample."""
    channels = batch.shape[1]
    buffer = None if effort.new_tensors else torch.empty_like(batch)
    blanked_norm(batch, buffer, 0, 0)  # the first call loads libraries and is not counted
    probes = [blanked_norm(batch, buffer, image, channels // 2) for image in range(3)]
    estimate = statistics.median(probe.copying + probe.decomposing for probe in probes) * BATCH * channels
    pairs = [divmod(pair, channels) for pair in range(BATCH * channels)]
    if estimate > effort.full:
        count = max(3, int(effort.sample / estimate * len(pairs)))
        pairs = random.Random(0).sample(pairs, count)
    return {pair: blanked_norm(batch, buffer, *pair) for pair in pairs}


def time_ours(batch: Tensor, repeats: int) -> tuple[Tensor, float]:
    channel_independence(batch[:2])
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        scores = channel_independence(batch)
        seconds.append(time.perf_counter() - start)
    return scores, statistics.median(seconds) / len(batch)


def measure(shape: Shape, effort: Effort) -> Timing:
    batch = relu_maps(shape)
    pairs = timed_pairs(batch, effort)
    scores, ours = time_ours(batch, effort.repeats)
    full = {
        image: torch.linalg.matrix_norm(batch[image].flatten(1), ord="nuc").item()
        for image in {image for image, _ in pairs}
    }
    difference = max(
        abs(scores[image, channel].item() - (full[image] - norm.value)) / full[image]
        for (image, channel), norm in pairs.items()
    )
    average = statistics.fmean if len(pairs) == BATCH * shape[0] else statistics.median
    copying, decomposing = (average(norm[field] for norm in pairs.values()) for field in (1, 2))
    norms = shape[0] + 1  # one per channel, and that of the whole matrix, which needs no copy
    return Timing(shape[0] * copying + norms * decomposing, norms * decomposing, ours, difference, len(pairs))


def peak_memory(shape: Shape) -> tuple[int, int]:
    """Peak resident bytes of this process, which must be fresh, before and after scoring a batch."""
    torch.set_num_threads(1)
    batch = relu_maps(shape)
    channel_independence(batch[:1, :2, :2, :2])  # loads libraries
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    channel_independence(batch)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return before * 1024, after * 1024


def report_memory() -> None:
    # Before anything else: a child's peak starts from what its parent held when it was made.
    print(f"\nPeak memory of a fresh process that scores a batch of {BATCH} images (limit {MEMORY_LIMIT >> 20} MiB)\n")
    print("| map | maps in float32, MiB | before scoring, MiB | after, MiB | |\n|---|---|---|---|---|")
    for shape in [(256, 56, 56), (2048, 7, 7)]:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
            before, after = fresh.submit(peak_memory, shape).result()
        verdict = "ok" if after < MEMORY_LIMIT else "TOO MUCH"
        maps = 4 * BATCH * shape[0] * shape[1] * shape[2]
        print(f"| {name_of(shape)} | {maps >> 20} | {before >> 20} | {after >> 20} | {verdict} |", flush=True)


def name_of(shape: Shape) -> str:
    return "x".join(map(str, shape))


def report_network(network: str, feature_maps: dict[Shape, int], effort: Effort) -> None:
    print(f"\n{network}: seconds per image, {sum(feature_maps.values())} scored layers\n")
    print("| map | layers | published | published, no copies | ours | ratio | difference / norm | published timed on |")
    print("|---|---|---|---|---|---|---|---|")
    totals, sampled = [0.0, 0.0, 0.0], False
    for shape, count in feature_maps.items():
        timing = measure(shape, effort)
        sampled |= timing.is_sampled(shape)
        note = f"{timing.pairs} pairs, MULTIPLIED UP" if timing.is_sampled(shape) else f"all {timing.pairs} pairs"
        print(
            f"| {name_of(shape)} | {count} | {timing.published:.3g} | {timing.without_copies:.3g} | {timing.ours:.3g} "
            f"| {timing.published / timing.ours:,.0f}x | {timing.difference:.1e} | {note} |",
            flush=True,
        )
        totals = [total + count * SCORED * seconds for total, seconds in zip(totals, timing[:3], strict=True)]
    published, without_copies, ours = totals
    print(
        f"\n{network}, {SCORED} images: published {published:,.0f} s{' (MULTIPLIED UP)' if sampled else ''}, "
        f"no copies {without_copies:,.0f} s, ours {ours:,.1f} s: "
        f"{published / ours:,.0f}x ({without_copies / ours:,.0f}x against no copies)",
        flush=True,
    )


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores" if names else platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="shorter samples of the released loop, one repeat of ours")
    parser.add_argument("--new-tensors", action="store_true", help="let the released loop allocate every copy anew")
    args = parser.parse_args()
    full, sample, repeats = (2.0, 0.5, 1) if args.quick else (60.0, 6.0, 3)
    effort = Effort(full, sample, repeats, args.new_tensors)
    torch.set_num_threads(1)
    start = time.perf_counter()
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    print(f"{datetime.date.today()}, {processor()}, one thread; {versions}")
    report_memory()
    for network, feature_maps in NETWORKS.items():
        report_network(network, feature_maps, effort)
    print(f"\nbenchmark took {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()

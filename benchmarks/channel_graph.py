"""The channel graph against Torch-Pruning's: trace, rank by L2 norm, cut half of all channels of every group.

Each side is run in a forked child of one process tree, on one thread, so that neither a hang nor what one run leaves
behind reaches the next; both have been warmed up in the parent by a small network. Building the network is not
counted. Sides take turns; the least of the repeats counts. Ours is `trace`, the norms, and `narrow` with its rehearsal;
theirs is its pruner of highest level, `BasePruner` with `GroupMagnitudeImportance(p=2)`, local, with a ratio of 0.5,
and, as its documentation asks, with the layers ignored that make the model's output (as our graph names them). Number
of attention heads and the like are not told to it. Both rank by the same: squares of all weights that make or read a
channel, and of its batch-norm scales. So where both find the same groups they end with the same network, and the column
"theirs" says if that is so, or else whether what it leaves still runs.

    python benchmarks/channel_graph.py [--only NAME …] [--quick] [--repeats 3] [--limit 60]
"""

import argparse
import copy
import datetime
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import torch
import torch_pruning
from networks import Network, networks, random_weights
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves

from pruning_lit.channels import ChannelGraph, Kept, narrow, trace
from pruning_lit.measure.machine import hardware, versions

HEADINGS = ("network", "trace s", "rank s", "narrow s", "ours s", "theirs s", "theirs / ours", "theirs")
SAME = "the same network"
SLOWEST = 1 / 1.2  # never slower than theirs by more than that
AT_LEAST = {"densenet201": 10.0, "vgg16": 10.0}  # times as fast as theirs
AT_MOST = {"swin_t": 3.0, "maxvit_t": 3.0}  # seconds
SAME_OUTPUT = 1e-3  # of the largest output

Example = tuple[Any, ...]
Widths = dict[str, tuple[int, ...]]


@dataclass
class Run:
    """What a child tells: `seconds` by step, or what went wrong; then, when asked, what it is left with."""

    seconds: dict[str, float] = field(default_factory=dict)
    failure: str = ""
    timed_out: bool = False
    last_layers: list[str] = field(default_factory=list)
    widths: Widths = field(default_factory=dict)
    outputs: list[Any] = field(default_factory=list)  # numpy arrays
    broken: str = ""  # why the narrowed network does not run

    @property
    def total(self) -> float:
        return sum(self.seconds.values())


def squares(weight: Tensor, dim: int) -> Tensor:
    """Sum of the squares of every slice along ``dim``; some rows at a time, as these stay in the cache."""
    others = [other for other in range(weight.ndim) if other != dim]
    if not others:
        return weight.square()
    sums = [part.square().sum(others) for part in weight.split(32)]
    return torch.cat(sums) if dim == 0 else torch.stack(sums).sum(0)


def norms(model: nn.Module, graph: ChannelGraph) -> dict[str, Tensor]:
    """L2 norm of all weights of each channel, shape ``(group.size,)``: what makes it, what reads it, and its scales."""
    tensors = dict(model.named_parameters())
    scales = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, _BatchNorm)}
    lengths: dict[tuple[str, int], Tensor] = {}  # a weight that reads many groups is squared once
    ranking = {}
    for group in graph.prunable:
        total = torch.zeros(group.size)
        for piece in group.slices:
            if piece.tensor not in tensors or (piece.role == "along" and piece.tensor not in scales):
                continue
            key = (piece.tensor, piece.dim)
            if key not in lengths:
                lengths[key] = squares(tensors[piece.tensor].detach(), piece.dim)
            total += lengths[key][piece.positions].sum(1)
        ranking[group.name] = total.sqrt()
    return ranking


def half(ranking: dict[str, Tensor]) -> Kept:
    """The longer half of every group."""
    return {
        name: sorted(lengths.topk(len(lengths) // 2).indices.tolist())
        for name, lengths in ranking.items()
        if len(lengths) > 1
    }


def run_ours(model: nn.Module, example: Example, _last_layers: list[str]) -> Run:
    start = time.perf_counter()
    graph = trace(model, example)
    traced = time.perf_counter()
    kept = half(norms(model, graph))
    ranked = time.perf_counter()
    narrow(model, graph, kept)
    cut = time.perf_counter()
    last = [layer for group in graph.groups if "it leaves the model" in str(group.protected) for layer in group.writers]
    return Run({"trace": traced - start, "rank": ranked - traced, "narrow": cut - ranked}, last_layers=last)


def run_theirs(model: nn.Module, example: Example, last_layers: list[str]) -> Run:
    start = time.perf_counter()
    pruner = torch_pruning.pruner.BasePruner(
        model,
        example,
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=0.5,
        ignored_layers=[model.get_submodule(layer) for layer in last_layers],
        in_channel_groups={},  # its defaults are shared by all pruners of a process
        out_channel_groups={},
    )
    pruner.step()
    return Run({"all": time.perf_counter() - start})


Side = Callable[[nn.Module, Example, list[str]], Run]


def child(connection: Connection, side: Side, model: nn.Module, example: Example, last_layers: list[str]) -> None:
    """Run one side and send what it took; then send what is left."""
    warnings.simplefilter("ignore")
    try:
        run = side(model, example, last_layers)
    except Exception as error:
        connection.send(Run(failure=f"{type(error).__name__}: {error}".replace("\n", " ")[:120]))
        return
    connection.send(run)
    run.widths = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    try:
        with torch.inference_mode():
            leaves = tree_leaves(model.eval()(*example))
        run.outputs = [leaf.numpy() for leaf in leaves if isinstance(leaf, Tensor)]
    except Exception as error:
        run.broken = f"{type(error).__name__}: {error}".replace("\n", " ")[:120]
    connection.send(run)


def fork(side: Side, model: nn.Module, example: Example, last_layers: list[str], limit: float) -> Run:
    """One run in a child, which is ended when the timed part, or looking at what is left, takes longer than `limit`."""
    context = get_context("fork")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=child, args=(there, side, model, example, last_layers))
    process.start()
    there.close()
    run = Run(failure="ended without a word")
    try:
        if not here.poll(limit):
            return Run({"all": limit}, failure=f"not done after {limit:.0f} s", timed_out=True)
        run = here.recv()
        if not run.failure:
            run.broken = f"a forward pass takes longer than {limit:.0f} s"
            if here.poll(limit):
                run = here.recv()
    except EOFError:  # killed, for its memory or otherwise
        run.broken = "ended without a word"
    finally:
        process.kill()
        process.join()
        here.close()
    return run


@dataclass(frozen=True)
class Row:
    name: str
    ours: Run
    theirs: Run | None

    @property
    def ratio(self) -> float | None:
        """Theirs / ours; a lower bound where theirs was given up; None where one of them failed."""
        if self.ours.failure or self.theirs is None or (self.theirs.failure and not self.theirs.timed_out):
            return None
        return self.theirs.total / self.ours.total

    @property
    def sign(self) -> str:
        return "> " if self.theirs is not None and self.theirs.timed_out else ""

    def judgement(self) -> str:
        """What became of the other side's network."""
        ours, theirs = self.ours, self.theirs
        if theirs is None:
            return "not tried"
        if theirs.failure:
            return f"**failed**: {theirs.failure}"
        if theirs.broken:
            return f"**does not run afterwards**: {theirs.broken}"
        other = sum(theirs.widths.get(name) != shape for name, shape in ours.widths.items())
        if other:
            return f"runs; {other} of {len(ours.widths)} parameters of other shapes"
        pairs = list(zip(ours.outputs, theirs.outputs, strict=False))
        if ours.broken or len(ours.outputs) != len(theirs.outputs) or any(a.shape != b.shape for a, b in pairs):
            return "runs; same shapes, other outputs"
        far = max((abs(a - b).max() / max(abs(a).max(), 1e-30) for a, b in pairs if a.size), default=0.0)
        return SAME if far < SAME_OUTPUT else f"runs; same shapes, outputs differ by {far:.0e}"

    def cells(self) -> list[str]:
        ours = [f"{each:.2f}" for each in (*self.ours.seconds.values(), self.ours.total)]
        if self.ours.failure:
            ours = ["-"] * 4
        theirs, ratio, judgement = "-", "-", self.judgement()
        if self.theirs is not None and self.ratio is not None:
            theirs, ratio = f"{self.sign}{self.theirs.total:.2f}", f"{self.sign}{self.ratio:.1f}x"
        if self.ours.failure or self.ours.broken:
            judgement = f"**OURS: {self.ours.failure or self.ours.broken}**; theirs: {judgement}"
        return [self.name, *ours, theirs, ratio, judgement.replace("|", "/")]


def measure(network: Network, repeats: int, limit: float) -> Row:
    torch.manual_seed(0)
    model, example = random_weights(network.build()), network.example()
    ours: list[Run] = []
    theirs: list[Run] = []
    for _ in range(repeats):
        ours.append(fork(run_ours, model, example, [], limit))
        if ours[0].failure:  # and nobody to say what the last layers are
            return Row(network.name, ours[0], None)
        if not theirs or not theirs[0].failure:
            theirs.append(fork(run_theirs, model, example, ours[0].last_layers, limit))
    return Row(network.name, least(ours), least(theirs))


def least(runs: list[Run]) -> Run:
    return min((run for run in runs if not run.failure), key=lambda run: run.total, default=runs[0])


def summary(rows: list[Row]) -> list[str]:
    """Lines: how many, the ratios, and what was promised."""
    ratios = {row.name: row.ratio for row in rows if row.ratio is not None and not row.sign}
    lines = [
        f"networks: {len(rows)}; ours ran on {sum(not row.ours.failure and not row.ours.broken for row in rows)}, both "
        f"on {len(ratios)}; theirs ended with {SAME} on {sum(row.judgement() == SAME for row in rows)}"
    ]
    if ratios:
        worst = min(ratios, key=lambda name: ratios[name])
        slower = [name for name, ratio in ratios.items() if ratio < SLOWEST]
        lines.append(f"median theirs / ours: {statistics.median(ratios.values()):.1f}x")
        lines.append(f"worst theirs / ours: {ratios[worst]:.2f}x ({worst}); {verdict(not slower)}, never below 1/1.2")
        if slower:
            lines.append("below 1/1.2: " + ", ".join(f"{name} {ratios[name]:.2f}x" for name in slower))
    for row in rows:
        if row.name in AT_LEAST and row.ratio is not None:
            least_ratio = AT_LEAST[row.name]
            kept = verdict(row.ratio >= least_ratio)
            lines.append(f"{row.name}: {row.sign}{row.ratio:.1f}x; {kept}, at least {least_ratio:g}x")
        if row.name in AT_MOST and not row.ours.failure:
            most = AT_MOST[row.name]
            lines.append(f"{row.name}: {row.ours.total:.2f} s; {verdict(row.ours.total <= most)}, at most {most:g} s")
    return lines


def verdict(kept: bool) -> str:
    return "promise kept" if kept else "**PROMISE NOT KEPT**"


def warm_up() -> None:
    """Let both sides load what they load at first use."""
    small = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 4, 3))
    for side in (run_ours, run_theirs):
        side(copy.deepcopy(small), (torch.rand(1, 3, 16, 16),), ["4"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="names of the networks to measure")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each side, of which the shortest counts")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds after which a run is given up")
    parser.add_argument("--quick", action="store_true", help="one run of each side, given up after 10 s")
    args = parser.parse_args()
    repeats, limit = (1, 10.0) if args.quick else (args.repeats, args.limit)
    known = [network.name for network in networks()]
    unknown = sorted(set(args.only or []) - set(known))
    if unknown:
        parser.error(f"no network is called {unknown}; there are {known}")
    torch.set_num_threads(1)
    warm_up()
    start = time.perf_counter()
    libraries = {**versions(), "torch-pruning": metadata.version("torch-pruning")}
    told = ", ".join(f"{name} {version}" for name, version in libraries.items())
    print(f"{datetime.date.today()}, {hardware()}, one thread; {told}\n")
    print("| " + " | ".join(HEADINGS) + " |\n|" + " --- |" * len(HEADINGS), flush=True)
    rows = []
    for network in networks():
        if not args.only or network.name in args.only:
            rows.append(measure(network, repeats, limit))
            print("| " + " | ".join(rows[-1].cells()) + " |", flush=True)
    print("\n" + "\n".join(f"- {line}" for line in summary(rows)))
    print(f"\nbenchmark took {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()

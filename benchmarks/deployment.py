"""What pruning, rounding of widths and int8 bring in ONNX Runtime: time over that of the dense network.

    python benchmarks/deployment.py                         # resnet20, random weights: speed does not depend on them
    python benchmarks/deployment.py --arch resnet56 --reduction 0.7

The dense network, the one that ``sparsity=macs`` leaves, the one that it leaves with ``round_to=8``, and both of these
in int8 (calibrated on noise, for speed alone) are timed in turns, on one thread; all but those in int8 in PyTorch, too.
Milliseconds are medians, with the quartiles of ONNX Runtime in brackets; ratios are the dense network's over them.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn

from pruning_lit.channels import cost, narrow, trace
from pruning_lit.command_line.configs import compose
from pruning_lit.criteria import Magnitude, Scoring
from pruning_lit.measure.machine import hardware, versions
from pruning_lit.measure.onnx_network import OnnxNetwork, traced_program
from pruning_lit.measure.stopwatch import seconds_in_turns
from pruning_lit.records.latency import Timing
from pruning_lit.runs.builder import build
from pruning_lit.runs.export import Signature, write_onnx
from pruning_lit.runs.int8 import quantize
from pruning_lit.sparsity import Macs

SIGNATURE = Signature(["pictures"], ["logits"], {})


def pruned(net: nn.Module, reduction: float, round_to: int, example: torch.Tensor) -> nn.Module:
    graph = trace(net, example)
    scores = Magnitude().scores(Scoring(net, graph, graph.prunable, []))
    narrow(net, graph, Macs(reduction, round_to=round_to).plan(graph, scores).kept)
    return net


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="resnet20")
    parser.add_argument("--reduction", type=float, nargs="+", default=[0.3, 0.5])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    config = compose(f"arch={arguments.arch}")
    example = torch.zeros(1, 3, 32, 32)

    def dense() -> nn.Module:
        torch.manual_seed(0)
        return build(config.arch, 10).eval()

    nets = {"dense": dense()}
    for reduction in arguments.reduction:
        for round_to in (1, 8):
            name = f"macs {reduction:.0%}, round_to {round_to}"
            nets[name] = pruned(dense(), reduction, round_to, example)
    macs = {name: cost(trace(net, example)).macs for name, net in nets.items()}
    random = torch.Generator().manual_seed(0)
    noise = [torch.randn(64, 3, 32, 32, generator=random) for _ in range(4)]
    sessions: dict[str, nn.Module] = {}
    with TemporaryDirectory() as folder:
        for place, (name, net) in enumerate(nets.items()):
            file = Path(folder) / f"{place}.onnx"
            sessions[name] = write_onnx(traced_program(net, (example,)), SIGNATURE, file)
            quantize(file, file.with_suffix(".int8.onnx"), noise, [], reduce_range=False)
            sessions[f"{name}, int8"] = OnnxNetwork(file.with_suffix(".int8.onnx"))
            macs[f"{name}, int8"] = macs[name]
    print(f"{arguments.arch}; {hardware()}, one thread; {', '.join(f'{k} {v}' for k, v in versions().items())}\n")
    for size in arguments.batch:
        batch = torch.randn(size, 3, 32, 32, generator=random)
        eager, onnx = (
            {
                name: Timing.of(times)
                for name, times in zip(
                    each, seconds_in_turns([*each.values()], batch, arguments.repeats, 3), strict=True
                )
            }
            for each in (nets, sessions)
        )
        print(f"| batch {size} | MACs | PyTorch, ms | ratio | ONNX Runtime, ms | ratio |\n|---|---|---|---|---|---|")
        for name, timing in onnx.items():
            torch_ms, gain = "–", "–"
            if name in eager:
                torch_ms = f"{eager[name].median_ms:.1f}"
                gain = f"{eager['dense'].median_ms / eager[name].median_ms:.2f}x"
            quartiles = f"{timing.lower_ms:.2f}–{timing.upper_ms:.2f}"
            print(
                f"| {name} | {macs[name] / 1e6:.2f} M | {torch_ms} | {gain} | {timing.median_ms:.2f} ({quartiles}) "
                f"| {onnx['dense'].median_ms / timing.median_ms:.2f}x |",
                flush=True,
            )
        print()


if __name__ == "__main__":
    main()

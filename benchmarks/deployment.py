"""What pruning, rounding of widths and int8 bring in ONNX Runtime and by torch.compile: time over the dense network's.

    python benchmarks/deployment.py                         # resnet20, random weights: speed does not depend on them
    python benchmarks/deployment.py --arch resnet56 --reduction 0.7

The dense network, the one that ``sparsity=macs`` leaves, the one that it leaves with ``round_to=8``, and all of these
in int8 (calibrated on noise, for speed alone) are timed in turns, on one thread: in ONNX Runtime, by torch.compile
(int8 by PT2E), and, but for int8, in PyTorch as they are. Milliseconds are medians, with quartiles in brackets; ratios
are the dense network's over them.
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
from pruning_lit.measure.program_network import ProgramNetwork, compiled, without_remarks
from pruning_lit.measure.stopwatch import seconds_in_turns
from pruning_lit.records.latency import Timing
from pruning_lit.runs.builder import build
from pruning_lit.runs.export import Signature, write_onnx
from pruning_lit.runs.onnx_int8 import quantize
from pruning_lit.runs.pt2_int8 import quantize_program
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
    in_onnx: dict[str, nn.Module] = {}
    programs: dict[str, nn.Module] = {}
    with TemporaryDirectory() as folder, without_remarks():
        for place, (name, net) in enumerate(nets.items()):
            file = Path(folder) / f"{place}.onnx"
            program = traced_program(net, (example,))
            in_onnx[name] = write_onnx(program, SIGNATURE, file)
            quantize(file, file.with_suffix(".int8.onnx"), noise, [], reduce_range=False)
            in_onnx[f"{name}, int8"] = OnnxNetwork(file.with_suffix(".int8.onnx"))
            programs[name] = net
            programs[f"{name}, int8"] = ProgramNetwork(quantize_program(program, noise, [], reduce_range=False))
            macs[f"{name}, int8"] = macs[name]
    print(f"{arguments.arch}; {hardware()}, one thread; {', '.join(f'{k} {v}' for k, v in versions().items())}\n")
    for size in arguments.batch:
        batch = torch.randn(size, 3, 32, 32, generator=random)
        runtimes = {
            "PyTorch": nets,
            "torch.compile": {name: compiled(net, (batch,)) for name, net in programs.items()},
            "ONNX Runtime": in_onnx,
        }
        times = {
            runtime: dict(zip(each, seconds_in_turns([*each.values()], batch, arguments.repeats, 3), strict=True))
            for runtime, each in runtimes.items()
        }
        print(f"| batch {size} | MACs |{''.join(f' {runtime}, ms | ratio |' for runtime in runtimes)}")
        print("|---|---|" + "---|---|" * len(runtimes))
        for name in in_onnx:
            cells = "".join(f" {cell} |" for runtime in runtimes for cell in told(times[runtime], name))
            print(f"| {name} | {macs[name] / 1e6:.2f} M |{cells}", flush=True)
        print()


def told(times: dict[str, list[float]], name: str) -> tuple[str, str]:
    """Median with quartiles, and the dense network's time over it."""
    if name not in times:
        return "–", "–"
    dense, timing = Timing.of(times["dense"]), Timing.of(times[name])
    quartiles = f"{timing.lower_ms:.2f}–{timing.upper_ms:.2f}"
    return f"{timing.median_ms:.2f} ({quartiles})", f"{dense.median_ms / timing.median_ms:.2f}x"


if __name__ == "__main__":
    main()

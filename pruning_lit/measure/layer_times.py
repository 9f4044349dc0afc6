"""Latency of single layers at other widths than their own."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from pruning_lit.channels.tracing.operations import evaluating
from pruning_lit.measure.onnx_network import OnnxNetwork
from pruning_lit.measure.stopwatch import seconds_in_turns
from pruning_lit.records.latency import Timing

log = logging.getLogger(__name__)
REPEATS, WARMUP = 9, 3  # of a layer at one pair of widths
POINTS = 5  # widths of either side that are measured, the dense one included


@dataclass(frozen=True)
class LayerKind:
    """A convolution or linear layer as it is used in a network: layers of one kind take the same time.

    Attributes:
        name: that tells it from others: type, kernel, stride, pixels, channels, and what follows.
        build: an equal layer of that many output and input channels, followed by a batch norm and an activation where
            it is a convolution.
        sample: input of one example, without its channels, which come first.
        outs, ins: its channels.
        depthwise: whether each channel is filtered by itself, so that both sides are one width.
    """

    name: str
    build: Callable[[int, int], nn.Module]
    sample: tuple[int, ...]
    outs: int
    ins: int
    depthwise: bool

    def widths(self, multiple: int) -> list[tuple[int, int]]:
        """Pairs of output and input widths on a grid of multiples."""
        if self.depthwise:
            return [(width, width) for width in grid(self.outs, multiple)]
        return [(out, width) for out in grid(self.outs, multiple) for width in grid(self.ins, multiple)]

    def milliseconds(self, out: int, width: int, batch_size: int, device: torch.device, onnx: bool = False) -> float:
        """Lower quartile of the wall time of a pass at these widths: what others do on the machine adds to the rest.

        Args:
            out: output channels.
            width: input channels.
            batch_size: examples in a pass.
            device: where PyTorch runs it.
            onnx: ONNX Runtime runs it, on the CPU.
        """
        layer = self.build(out, width).to(device).eval()
        batch = torch.randn(batch_size, width, *self.sample).to(device)
        if onnx:
            layer = layer_in_onnx(layer)
        (times,) = seconds_in_turns([layer], batch, REPEATS, WARMUP)
        return Timing.of(times).lower_ms


def grid(size: int, multiple: int) -> list[int]:
    """At most :data:`POINTS` widths from small to ``size``, multiples where they can be."""
    points = {max(multiple, round(size * point / POINTS / multiple) * multiple) for point in range(1, POINTS)}
    return sorted({each for each in points if each < size} | {size})


def layer_kinds(net: nn.Module, example: Tensor, names: Sequence[str]) -> dict[str, LayerKind]:
    """Kinds of the layers of a network, by their names; those that cannot be built at other widths are left out.

    A layer that is used several times is of the kind of its last use.

    Args:
        net: the network.
        example: input of one example, or a tuple of arguments.
        names: of its convolutions and linear layers.
    """
    found: dict[str, LayerKind] = {}
    modules = dict(net.named_modules())
    handles = [
        modules[name].register_forward_pre_hook(
            lambda module, inputs, name=name: found.update(_kind(name, module, inputs[0]))
        )
        for name in names
        if name in modules
    ]
    try:
        with evaluating(net), torch.no_grad():
            net(*(example if isinstance(example, tuple) else (example,)))
    finally:
        for handle in handles:
            handle.remove()
    return found


def _kind(name: str, module: nn.Module, x: Tensor) -> dict[str, LayerKind]:
    if isinstance(module, nn.Linear) and x.ndim == 2:
        outs, ins = module.out_features, module.in_features
        return {name: LayerKind(f"linear {ins}→{outs}", lambda out, width: nn.Linear(width, out), (), outs, ins, False)}
    if (
        not isinstance(module, nn.Conv2d)
        or x.ndim != 4
        or module.groups not in (1, module.in_channels)
        or isinstance(module.padding, str)
    ):
        return {}
    depthwise = module.groups == module.in_channels > 1
    if depthwise and module.out_channels != module.in_channels:
        return {}

    def build(out: int, width: int) -> nn.Module:
        groups = width if depthwise else 1
        options = (module.kernel_size, module.stride, module.padding, module.dilation, groups, module.bias is not None)
        return nn.Sequential(nn.Conv2d(width, out, *options), nn.BatchNorm2d(out), nn.ReLU(inplace=True))  # type: ignore[arg-type]

    sizes = "×".join(map(str, x.shape[2:]))
    kernel, stride = ("×".join(map(str, each)) for each in (module.kernel_size, module.stride))
    form = (
        f"{'depthwise ' * depthwise}{kernel}, stride {stride}, dilation {module.dilation[0]}, padding {module.padding}"
    )
    told = f"convolution {form}, {module.in_channels}→{module.out_channels} at {sizes}"
    return {name: LayerKind(told, build, tuple(x.shape[2:]), module.out_channels, module.in_channels, depthwise)}


def layer_in_onnx(layer: nn.Module) -> OnnxNetwork:
    """A layer as exported networks have it: a convolution with its norm folded in and its activation, or a linear one.

    It is written node by node: tracing each layer at each width would take minutes.
    """
    from onnx import TensorProto, helper, numpy_helper

    first = layer[0] if isinstance(layer, nn.Sequential) else layer
    assert isinstance(first, nn.Conv2d | nn.Linear)
    weights = {"weight": first.weight, "bias": torch.zeros(len(first.weight))}
    if isinstance(first, nn.Conv2d):
        options = {
            "kernel_shape": first.kernel_size,
            "strides": first.stride,
            "pads": [*first.padding] * 2,
            "dilations": first.dilation,
            "group": first.groups,
        }
        nodes = [
            helper.make_node("Conv", ["x", "weight", "bias"], ["maps"], **options),
            helper.make_node("Relu", ["maps"], ["y"]),
        ]
        shape = ["batch", first.in_channels, "height", "width"]
    else:
        nodes, shape = (
            [helper.make_node("Gemm", ["x", "weight", "bias"], ["y"], transB=1)],
            ["batch", first.in_features],
        )
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(each.detach().cpu().numpy(), name) for name, each in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "layer.onnx"
        file.write_bytes(model.SerializeToString())
        return OnnxNetwork(file)

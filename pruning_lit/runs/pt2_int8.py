"""Static quantization of a network to int8 for ``torch.compile``: PT2E of torchao."""

from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.fx import GraphModule

from pruning_lit.measure.onnx_network import traced_program
from pruning_lit.measure.program_network import ProgramNetwork, without_remarks
from pruning_lit.runs.export import Exportable, write_pt2
from pruning_lit.runs.quantization import InInt8, kept_in_float

#: Operations that move channels and pixels.
MOVES = ("slice", "index_select", "index", "gather", "scatter", "pad", "constant_pad_nd")


def pt2_int8(
    net: Exportable, batches: Iterable[Any], keep_float: Sequence[str], reduce_range: bool, target: Path
) -> InInt8:
    """Write a program in int8 for x86: U8S8, weights per channel, as pairs of quantize and dequantize operations.

    As it is the program computes in float32 between these pairs; ``torch.compile`` turns them into kernels in int8.

    Args:
        net: the network.
        batches: its inputs, each a tensor or a tuple of them.
        keep_float: patterns of names of layers that are left in float32.
        reduce_range: activations of 7 bits, see :func:`~pruning_lit.measure.machine.lacks_vnni`.
        target: for the file.

    Raises:
        ValueError: a pattern matches no layer, or nothing can be quantized.
    """
    kept = kept_in_float(_layers(net.net), keep_float)
    with without_remarks():
        images = list(batches)
        converted = quantize_program(net.program, images, kept, reduce_range)
        if not _is_quantized(converted):  # torch up to 2.9 needs to know by which function an operation was called
            program = traced_program(net.net, net.arguments, strict=True)
            converted = quantize_program(program, images, kept, reduce_range)
        if not _is_quantized(converted):
            raise ValueError(f"torchao {version('torchao')} finds no layer in the network that it can quantize")
        written = write_pt2(traced_program(converted, net.arguments), net.signature, target)
    bits = "activations of 7 bits" if reduce_range else ""
    return InInt8(net.net, ProgramNetwork(written), kept, bits, _count_moves(converted))


def quantize_program(
    program: ExportedProgram, batches: Iterable[Any], kept: Iterable[str], reduce_range: bool
) -> GraphModule:
    """Quantize a program: U8S8, weights per channel, ranges from minimum and maximum, norms folded before.

    Args:
        program: the network, left as it is.
        batches: its inputs, each a tensor or a tuple of them.
        kept: names of modules that are left in float32.
        reduce_range: activations of 7 bits.

    Returns:
        A program with pairs of quantize and dequantize operations, whose weights are in int8.
    """
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (
        X86InductorQuantizer,
        get_default_x86_inductor_quantization_config,
    )

    quantizer = X86InductorQuantizer()
    quantizer.set_global(get_default_x86_inductor_quantization_config(reduce_range=reduce_range))
    for name in kept:
        quantizer.set_module_name_qconfig(name, None)
    try:
        prepared = prepare_pt2e(program.module(), quantizer)
    except ValueError as error:  # of a layer that is called twice
        raise ValueError(
            f"torchao {version('torchao')} cannot quantize this network ({error}): choose format=onnx_int8, which can"
        ) from error
    with torch.no_grad():
        for inputs in batches:
            prepared(*(inputs if isinstance(inputs, tuple) else (inputs,)))
    converted = convert_pt2e(prepared)
    _drop_unused(converted)
    return converted


def _layers(net: nn.Module) -> list[str]:
    return [
        name for name, module in net.named_modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)
    ]


def _is_quantized(program: GraphModule) -> bool:
    return any("quantize_per" in str(node.target) for node in program.graph.nodes)


def _drop_unused(program: GraphModule) -> None:
    """Delete parameters and buffers that no operation reads: the weights in float32 that were quantized."""
    used = {node.target for node in program.graph.nodes if node.op == "get_attr"}
    for name in {*dict(program.named_parameters()), *dict(program.named_buffers())} - used:
        owner, _, own = name.rpartition(".")
        delattr(program.get_submodule(owner), own)


def _count_moves(program: GraphModule) -> int:
    names = (str(node.target).split(".")[1] for node in program.graph.nodes if node.op == "call_function")
    return sum(name in MOVES for name in names if name)

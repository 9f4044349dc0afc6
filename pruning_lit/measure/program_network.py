"""A program of ``torch.export`` as a network, and networks as ``torch.compile`` runs them."""

import importlib.util
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

from pruning_lit.system.one_line import in_one_line


@contextmanager
def without_remarks() -> Iterator[None]:
    """Keep to themselves what PyTorch and torchao warn each other of."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def require_torchao() -> None:
    """ValueError where torchao, which writes and runs programs in int8, is not installed or is of another torch."""
    if importlib.util.find_spec("torchao") is None:
        raise ValueError("format=pt2_int8 needs torchao: pip install 'pruning_lit[int8]'")
    try:
        with without_remarks():
            importlib.import_module("torchao.quantization.pt2e.quantizer.x86_inductor_quantizer")
            importlib.import_module("torchao.quantization.pt2e.quantize_pt2e")
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"torchao {version('torchao')} does not go with torch {torch.__version__} ({in_one_line(error)}): install "
            "the torchao that came out with it"
        ) from error


class ProgramNetwork(nn.Module):
    """A program of ``torch.export`` as a module for clocks and evaluation, which change modes and ask for parameters.

    Args:
        program: what ``ExportedProgram.module()`` gives, compiled or not: it has one mode, that of its tracing.
    """

    def __init__(self, program: Callable[..., Any]) -> None:
        super().__init__()
        self.program = (program,)  # in a tuple: not registered, as it refuses train() and eval()
        self.placeholder = nn.Parameter(torch.empty(0), requires_grad=False)

    def forward(self, *inputs: Tensor) -> Any:
        """Outputs of the program."""
        return self.program[0](*inputs)


class NotCompiledError(RuntimeError):
    """``torch.compile`` failed."""


def compiled(net: nn.Module, arguments: tuple[Tensor, ...]) -> nn.Module:
    """The network in eval mode as ``torch.compile`` runs it for inputs of these shapes, its weights as constants.

    Raises:
        NotCompiledError: it cannot be compiled on this machine, for example without a C++ compiler.
    """
    from torch._inductor import config as inductor  # late: only what compiles needs the compiler

    program = net.program[0] if isinstance(net, ProgramNetwork) else net.eval()
    torch._dynamo.reset()  # or a second batch size would be compiled for any
    fast = torch.compile(program)

    @torch.inference_mode(False)  # which freezing does not know
    @torch.no_grad()
    @inductor.patch(freezing=True)  # as an option of torch.compile it would come too late for kernels in int8
    def run(*inputs: Tensor) -> Any:
        return fast(*inputs)

    try:
        with without_remarks():
            run(*arguments)
    except Exception as error:  # whatever the compiler came upon
        raise NotCompiledError(f"torch.compile failed: {in_one_line(error)}") from error
    return ProgramNetwork(run)

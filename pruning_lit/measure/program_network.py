"""A program of ``torch.export`` as a network, and networks as ``torch.compile`` runs them."""

import importlib.util
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._inductor import config as inductor

from pruning_lit.system.one_line import in_one_line


def has_torchao() -> bool:
    """True where programs in int8 can be written and run."""
    return importlib.util.find_spec("torchao") is not None


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

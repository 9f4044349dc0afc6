"""Random numbers in forward passes that are held against each other: drawn alike, whatever the widths."""

import functools
import random
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

Draws = Literal["any", "low", "high"]  # numbers as they come, or the least, or the greatest, that can be drawn

SEED = 0
WORDS = 624  # of the state of a Mersenne twister
FORCED = 256  # so many are extreme; then they are as they come, lest a search for a fit number never ends
DROPOUTS = frozenset({"dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"})
ATTENTION = "aten::scaled_dot_product_attention"  # draws numbers for its dropout alone, whatever PyTorch tags it


class same_randomness:
    """Context in which random numbers begin anew, in Python, NumPy and PyTorch; afterwards all go on as before.

    Args:
        draws: the numbers that Python and NumPy give first.
        device: of the model.
    """

    def __init__(self, draws: Draws = "any", device: torch.device | None = None) -> None:
        self.draws = draws
        on_gpu = device is not None and device.type == "cuda"
        self.devices = [device] if on_gpu else []

    def __enter__(self) -> "same_randomness":
        self.fork = torch.random.fork_rng(self.devices)
        self.fork.__enter__()
        self.before = random.getstate(), np.random.get_state()
        torch.default_generator.manual_seed(SEED)
        for device in self.devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(SEED)
        for_python, for_numpy = _states(self.draws)
        random.setstate(for_python)
        np.random.set_state(for_numpy)
        self.begun = random.getstate(), _numpy_state()
        return self

    def __exit__(self, *exception: Any) -> None:
        random.setstate(self.before[0])
        np.random.set_state(self.before[1])
        self.fork.__exit__(*exception)

    def asked(self) -> bool:
        """True where Python or NumPy has been asked for a number."""
        return self.begun != (random.getstate(), _numpy_state())


def _numpy_state() -> tuple[bytes, int]:
    state = np.random.get_state(legacy=True)
    return state[1].tobytes(), state[2]  # type: ignore[index]


@functools.cache
def _states(draws: Draws) -> tuple[Any, Any]:
    """States of Python's and NumPy's Mersenne twisters in which they give these numbers first."""
    words = np.random.Generator(np.random.MT19937(SEED)).integers(0, 2**32, WORDS, dtype=np.uint32)
    if draws != "any":
        words[:FORCED] = 0 if draws == "low" else _untempered(2**32 - 1)
    return (3, (*words.tolist(), 0), None), ("MT19937", words, 0)


def _untempered(output: int) -> int:
    """The word of its state for which a Mersenne twister gives ``output``."""
    word = output ^ output >> 18
    word ^= word << 15 & 0xEFC60000
    lower = word
    for _ in range(4):
        lower = word ^ (lower << 7 & 0x9D2C5680)
    upper = lower
    for _ in range(2):
        upper = lower ^ upper >> 11
    return upper


def drops_out(operation: torch._ops.OpOverload, args: tuple) -> bool:
    """True for dropout that is switched on."""
    at = 4 if operation._schema.name == ATTENTION else 2
    return (at == 4 or _is_dropout(operation)) and len(args) > at and bool(args[at])


@functools.cache
def _is_dropout(operation: torch._ops.OpOverload) -> bool:
    return operation._schema.name.removeprefix("aten::").removesuffix("_") in DROPOUTS


@functools.cache
def is_random(operation: torch._ops.OpOverload) -> bool:
    """True for an operation that draws numbers, but for dropout in attention, see ``drops_out``."""
    return torch.Tag.nondeterministic_seeded in operation.tags and operation._schema.name != ATTENTION


def alike(operation: torch._ops.OpOverload, args: tuple, kwargs: dict, index: int, draws: Draws = "any") -> Any:
    """Run a random operation so that what is drawn later does not depend on how many numbers it draws.

    Dropout lets everything through. A single number is the one that is asked for, as it may decide on a path.

    Args:
        operation: one for which ``drops_out`` or ``is_random`` holds.
        args: its arguments.
        kwargs: those given by name.
        index: its number in the pass.
        draws: what a single number is to be.
    """
    if _is_dropout(operation):
        return args[0] if operation._schema.is_mutable else args[0].clone()
    if operation._schema.name == ATTENTION:
        return operation(*args[:4], 0.0, *args[5:], **kwargs)
    result = operation(*args, **kwargs)
    torch.default_generator.manual_seed(SEED + index + 1)
    if draws != "any" and isinstance(result, Tensor) and result.numel() == 1 and not result.is_meta:
        name = operation._schema.name.removeprefix("aten::").removesuffix("_")
        if (bounds := _bounds(name, args)) is not None:
            result.fill_(bounds[draws == "high"])
    return result


def even_out(drawn: Any) -> None:
    """Make random maps constant, in place: the same number is the first of more, or of fewer, channels."""
    if isinstance(drawn, Tensor) and drawn.numel() > len(drawn if drawn.ndim else [drawn]) and not drawn.is_meta:
        drawn.fill_(drawn.flatten()[0].item())


def _bounds(name: str, args: tuple) -> tuple[float, float] | None:
    """The least and the greatest number that may be drawn."""
    if name in ("rand", "rand_like"):
        return 0.0, 1 - 2.0**-24
    if name == "uniform":
        low, high = (*args[1:3], 0.0, 1.0)[:2] if len(args) != 2 else (args[1], 1.0)
        return low, high - (high - low) * 2.0**-20
    if name == "bernoulli":
        chance = args[1] if len(args) > 1 else args[0]
        chance = float(chance) if isinstance(chance, int | float) or chance.numel() == 1 else 0.5
        return float(chance >= 1), float(chance > 0)
    if name in ("randint", "randint_like"):
        numbers = [number for number in args if isinstance(number, int)]
        return (numbers[0] if len(numbers) > 1 else 0), numbers[-1] - 1
    return None

"""Matrix products, Einstein sums and attention: layers where a factor is stored, else sums over channels."""

import math
from collections.abc import Sequence

from torch import Tensor

from pruning_lit.channels.tracing.arguments import named
from pruning_lit.channels.tracing.dataflow import Role
from pruning_lit.channels.tracing.kinds import Operation
from pruning_lit.channels.tracing.rules.layers import Dims, Places, layer, make, tie_parameter
from pruning_lit.channels.tracing.tracer import Tracer
from pruning_lit.channels.tracing.views import View


def product(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Tensor) -> Role | None:
    """A matrix product: a layer where one factor is stored, else a sum over channels that must be zero when removed."""
    one, other = args[0], args[1]
    if min(one.ndim, other.ndim) == 1:
        _sum_of_products(tracer, [one, other], (-1, -min(2, other.ndim)))
        return None
    left, right = tracer.stored.view(one), tracer.stored.view(other)
    if right is not None and tracer.name_of(one) is None and _is_one_matrix(right, other):
        dims = Dims(other.ndim - 1, other.ndim - 2, one.ndim - 1)
        return layer(tracer, one, other, None, result, dims, _places(tracer, result.shape[:-1]))
    if left is not None and tracer.name_of(other) is None and _is_one_matrix(left, one):
        dims = Dims(one.ndim - 2, one.ndim - 1, other.ndim - 2)
        return layer(tracer, other, one, None, result, dims, _places(tracer, (*result.shape[:-2], result.shape[-1])))
    return _contraction(tracer, one, other, result)


def _places(tracer: Tracer, shape: Sequence[int]) -> Places:
    """The places of a product of this shape, but for its channels; in a flat one those of all examples are in a row."""
    if len(shape) == 1:
        return Places(shape[0] // tracer.examples, tracer.examples)
    return Places(math.prod(shape[1:]), shape[0])


def _is_one_matrix(view: View, factor: Tensor) -> bool:
    """True where a stored factor is one matrix for the whole batch, perhaps repeated for each of its examples."""
    return all(factor.shape[dim] == 1 or view.dims[dim] is None for dim in range(factor.ndim - 2))


def sum_and_product(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Tensor) -> Role | None:
    """``addmm`` and ``baddbmm``: what is added may be a bias, and nothing else."""
    added = args[0]
    if tracer.name_of(added) is not None and added.ndim == 1 and not kwargs and len(args) == 3:
        role = product(tracer, operation, args[1:], {}, result)
        shadow = tracer.shadow(result)
        if shadow is not None:
            tie_parameter(tracer, added, tracer.channels(result, result.ndim - 1))
        return role
    tracer.freeze(added, "it is added to a matrix product")
    role = product(tracer, operation, args[1:], {}, result)
    tracer.zeroed.discard(result)
    return role


def einsum(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Tensor) -> Role | None:
    """Einstein sums of two tensors: as a matrix product, with the dimensions named by letters."""
    equation, operands = args[0].replace(" ", ""), list(args[1])
    inputs, arrow, output = equation.partition("->")
    letters = inputs.split(",")
    if not arrow or "." in equation or len(operands) != 2 or any(len(set(each)) != len(each) for each in letters):
        for tensor in operands:
            tracer.freeze(tensor, "an einsum of this kind may mix channels")
        return None
    for number, weight in enumerate(operands):
        view = tracer.stored.view(weight)
        shared = [letter for letter in letters[0] if letter in letters[1] and letter not in output]
        made = [letter for letter in letters[number] if letter in output and letter not in letters[1 - number]]
        if view is not None and len(shared) == len(made) == 1 and len(letters[number]) == 2:
            x, x_letters = operands[1 - number], letters[1 - number]
            dims = Dims(letters[number].index(made[0]), letters[number].index(shared[0]), output.index(made[0]))
            shape = [length for letter, length in zip(output, result.shape, strict=True) if letter != made[0]]
            given = tracer.channels(x, x_letters.index(shared[0]))
            return make(tracer, view, given, None, result, dims, _places(tracer, shape))
    return _einsum_of_activations(tracer, operands, letters, output, result)


def _einsum_of_activations(
    tracer: Tracer, operands: list[Tensor], letters: list[str], output: str, result: Tensor
) -> Role | None:
    shadows = [tracer.shadow(tensor) for tensor in operands]
    summed = [
        [
            letter
            for dim, letter in enumerate(each)
            if shadow is not None and tracer.varies(shadow, dim) and letter not in output
        ]
        for each, shadow in zip(letters, shadows, strict=True)
    ]
    if any(summed):
        letter = (summed[0] or summed[1])[0]
        if letter in letters[0] and letter in letters[1]:
            _sum_of_products(tracer, operands, (letters[0].index(letter), letters[1].index(letter)))
        else:
            for tensor in operands:
                tracer.freeze(tensor, "an einsum sums over it")
        return None
    if all(shadow is not None for shadow in shadows) or not any(shadow is not None for shadow in shadows):
        for tensor in operands:
            tracer.freeze(tensor, "two sets of channels meet in an einsum")
        return None
    for tensor, shadow, each in zip(operands, shadows, letters, strict=True):
        if shadow is not None:
            tracer.place(
                result, _relettered(shadow, each, output).expand(result.shape), tracer.is_zero_when_pruned(tensor)
            )
    return None


def _relettered(shadow: Tensor, letters: str, output: str) -> Tensor:
    """A shadow that is constant along letters not in ``output``, with the others in its order, and length 1 else."""
    for dim, letter in reversed(list(enumerate(letters))):
        shadow = shadow if letter in output else shadow.select(dim, 0)
    kept = [letter for letter in letters if letter in output]
    shadow = shadow.permute([kept.index(letter) for letter in output if letter in kept])
    for dim, letter in enumerate(output):
        shadow = shadow if letter in kept else shadow.unsqueeze(dim)
    return shadow


def attention(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Tensor) -> Role | None:
    """Scaled dot products: queries and keys are summed over, and set the scale if none is given; values go through."""
    given = named(operation, args, kwargs)
    query, key, value = given["query"], given["key"], given["value"]
    if given.get("scale") is not None:
        _sum_of_products(tracer, [query, key], (-1, -1))
    else:
        for tensor in (query, key):
            tracer.freeze(tensor, "attention scales by the number of channels")
    if given.get("attn_mask") is not None:
        tracer.freeze(given["attn_mask"], "it is an attention mask")
    shadow = tracer.shadow(value)
    if shadow is None:
        return None
    if tracer.varies(shadow, -2) or (query.shape[:-2] != value.shape[:-2]):
        tracer.freeze(value, "attention mixes its tokens")
        return None
    tracer.place(result, shadow.narrow(-2, 0, 1).expand(result.shape), tracer.is_zero_when_pruned(value))
    return None


def _contraction(tracer: Tracer, one: Tensor, other: Tensor, result: Tensor) -> Role | None:
    """``(…, n, k)`` by ``(…, k, m)`` to ``(…, n, m)`` without a stored factor."""
    left, right = tracer.shadow(one), tracer.shadow(other)
    if left is None and right is None:
        for tensor in (one, other):
            tracer.freeze(tensor, "it is multiplied by another weight")
    contracted = [shadow is not None and tracer.varies(shadow, dim) for shadow, dim in ((left, -1), (right, -2))]
    if any(contracted):
        _sum_of_products(tracer, [one, other], (-1, -2))
        return None
    if left is not None and right is not None:
        single = [not any(tracer.varies(shadow, dim) for dim in range(shadow.ndim)) for shadow in (left, right)]
        for tensor, is_single in zip((one, other), single, strict=True):
            if is_single or not any(single):
                meeting = "two sets of channels meet in a matrix product"
                tracer.freeze(tensor, "a single channel is spread over many" if is_single else meeting)
        if single[0] == single[1]:
            return None
        left, right = (None if is_single else shadow for shadow, is_single in zip((left, right), single, strict=True))
    if left is not None:
        tracer.place(result, left.narrow(-1, 0, 1).expand(result.shape), tracer.is_zero_when_pruned(one))
    if right is not None:
        tracer.place(result, right.narrow(-2, 0, 1).expand(result.shape), tracer.is_zero_when_pruned(other))
    return None


def _sum_of_products(tracer: Tracer, operands: list[Tensor], dims: tuple[int, int]) -> None:
    """Exact without the removed channels if each product with one of them is zero."""
    shadows = [tracer.shadow(tensor) for tensor in operands]
    first, second = (
        None if shadow is None else tracer.outline(shadow).along(dim) for shadow, dim in zip(shadows, dims, strict=True)
    )
    if first is None or second is None or bool(((first < 0) | (second < 0)).any()):
        reason = "a product sums over it against numbers of fixed width"
    elif not any(tracer.is_zero_when_pruned(tensor) for tensor in operands):
        reason = "a product sums over it, and it is not zero once it is removed"
    else:
        tracer.identities.tie(first, second)
        return
    for tensor in operands:
        tracer.freeze(tensor, reason)

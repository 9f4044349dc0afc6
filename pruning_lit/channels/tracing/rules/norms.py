"""Rules of normalisations."""

from torch import Tensor

from pruning_lit.channels.tracing.arguments import named
from pruning_lit.channels.tracing.dataflow import Role
from pruning_lit.channels.tracing.kinds import Operation
from pruning_lit.channels.tracing.rules.layers import tie_parameter
from pruning_lit.channels.tracing.tracer import Tracer


def channel_norm(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Tensor) -> Role | None:
    """Batch and instance normalisation: every channel for itself; all their vectors belong to the channels."""
    given = named(operation, args, kwargs)
    channels = tracer.channels(given["input"])
    if tracer.shadow(given["input"]) is None:
        tracer.freeze(given["input"], "a norm mixes its channels")
    affine = given.get("weight") is not None
    for key in ("weight", "bias", "running_mean", "running_var"):
        if given.get(key) is not None:
            tie_parameter(tracer, given[key], channels)
    own_mean = operation._schema.name == "aten::instance_norm" and given.get("use_input_stats", True)
    tracer.set_channels(result, channels, zeroed=affine or (own_mean and tracer.is_zero_when_pruned(given["input"])))
    return Role.FORWARDS


def group_norm(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Tensor) -> Role | None:
    """Group normalisation: all channels of a normalisation group leave, or none."""
    given = named(operation, args, kwargs)
    x, num_groups = given["input"], given["num_groups"]
    channels = tracer.channels(x)
    if tracer.shadow(x) is None:
        tracer.freeze(x, "a norm mixes its channels")
        return None
    if tracer.decide(num_groups == 1 and len(channels) > 1):
        tracer.freeze(x, "group_norm with one group normalises over all channels")
        return Role.FORWARDS
    tracer.note(len(channels) // num_groups)
    parts = channels.view(num_groups, -1)
    tracer.identities.tie(parts[:, :-1], parts[:, 1:])
    tracer.freeze_identities(parts[(parts < 0).any(1)], "it is normalised together with a constant")
    for key in ("weight", "bias"):
        if given[key] is not None:
            tie_parameter(tracer, given[key], channels)
    tracer.set_channels(result, channels, zeroed=given["weight"] is not None or tracer.is_zero_when_pruned(x))
    return Role.FORWARDS


def layer_norm(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Tensor) -> Role | None:
    """Layer normalisation mixes channels where it runs over them; over space alone it leaves them as they are."""
    given = named(operation, args, kwargs)
    x = given["input"]
    shadow = tracer.shadow(x)
    if shadow is None:
        tracer.freeze(x, "a norm mixes its channels")
        return None
    if any(tracer.varies(shadow, dim) for dim in range(-len(given["normalized_shape"]), 0)):
        tracer.freeze(x, "layer_norm normalises over all channels")
        return Role.FORWARDS
    tracer.place(result, shadow)
    return Role.FORWARDS

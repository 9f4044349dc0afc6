"""Arguments of operations."""

from typing import Any

from pruning_lit.channels.tracing.tracer import Operation


def named(operation: Operation, args: tuple, kwargs: dict) -> dict[str, Any]:
    """Arguments by name, defaults filled in."""
    schema = operation._schema.arguments
    values = {argument.name: argument.default_value for argument in schema}
    values.update(zip((argument.name for argument in schema), args, strict=False))
    return values | kwargs

"""``arch._target_=my.module.Net``: a network of the user's own in the place of a configured one."""

import os
import re
import sys

TARGET = re.compile(r"\+{0,2}arch(\._target_=|=\{.*_target_)")
CHOICE = re.compile(r"arch=(?!\{)")
SETTING = re.compile(r"\+{0,2}(?=arch(\.|=\{))")
NAMED = re.compile(r"\+{0,2}(name|experiment)=")
EMPTY = "arch=[]"
NAME = "name=${hydra:runtime.choices.method}_${arch._target_}_${hydra:runtime.choices.dataset}"


def import_from_current_folder() -> None:
    """Let the modules in the current folder be found, as ``python -m`` does; console scripts do not."""
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())


def with_own_network(arguments: list[str], is_run: bool = True) -> list[str]:
    """Empty the group ``arch`` where a constructor is named without choosing a configured network.

    Otherwise the keys of the default network would be handed to that constructor as well. Its own keys may be given
    with a plus or without, one by one (``arch.width=32``) or together (``arch={_target_: my.module.Net, width: 32}``).

    Args:
        arguments: as typed.
        is_run: the config of the command is that of a run, which is named after its network.
    """
    if not any(TARGET.match(word) for word in arguments) or any(CHOICE.match(word) for word in arguments):
        return arguments
    settings = [SETTING.sub("++", word, count=1) if SETTING.match(word) else word for word in arguments]
    named = not is_run or any(NAMED.match(word) for word in arguments)
    return [*settings, EMPTY, *([] if named else [NAME])]


def as_typed(arguments: list[str]) -> list[str]:
    """Undo ``with_own_network``, for people to read."""
    if EMPTY not in arguments:
        return arguments
    return [re.sub(r"^\+\+(?=arch\b)", "", word) for word in arguments if word not in (EMPTY, NAME)]

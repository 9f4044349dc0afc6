"""``arch._target_=my.module.Net``, ``dataset._target_=my.module.Data``: code of the user's own in a group's place."""

import os
import re
import sys

GROUPS = ("arch", "dataset")
NAMED = re.compile(r"\+{0,2}(name|experiment)=")
TASKS = re.compile(r"\+{0,2}task=")
DEFAULT_TASK = "+task=classification"
PART = re.compile(r"\+{0,2}(?=dataset\.(train|test|validation)\.)")  # of dataset=datasets: with keys of its own


def target(group: str) -> re.Pattern[str]:
    """Pattern of a word that names a constructor in the place of a choice."""
    return re.compile(rf"\+{{0,2}}{group}(\._target_=|=\{{.*_target_)")


def import_from_current_folder() -> None:
    """Let the modules in the current folder be found, as ``python -m`` does; console scripts do not."""
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())


def with_own_code(arguments: list[str], is_run: bool = True) -> list[str]:
    """Empty the groups ``arch`` and ``dataset`` where a constructor is named without choosing a configured one.

    Otherwise the keys of the default choice would be handed to that constructor as well. Its own keys may be given
    with a plus or without, one by one (``arch.width=32``) or together (``arch={_target_: my.module.Net, width: 32}``).
    A data set of one's own chooses no task: that is classification, unless typed.

    Args:
        arguments: as typed.
        is_run: the config of the command is that of a run, which is named after its network and data.
    """
    words = [PART.sub("++", word, count=1) for word in arguments]
    own = [
        group
        for group in GROUPS
        if any(target(group).match(word) for word in words)
        and not any(re.match(rf"{group}=(?!\{{)", word) for word in words)
    ]
    for group in own:
        words = [re.sub(rf"^\+{{0,2}}(?={group}(\.|=\{{))", "++", word) for word in words]
    words += [f"{group}=[]" for group in own]
    if "dataset" in own:
        words = [TASKS.sub("+task=", word) for word in words]
        words += [] if any(TASKS.match(word) for word in words) else [DEFAULT_TASK]
    if own and is_run and not any(NAMED.match(word) for word in words):
        words.append(name(own))
    return words


def name(own: list[str]) -> str:
    """The override of a run's name by what has taken the place of its choices."""
    parts = [f"${{{group}._target_}}" if group in own else f"${{hydra:runtime.choices.{group}}}" for group in GROUPS]
    return f"name=${{hydra:runtime.choices.method}}_{'_'.join(parts)}"


def as_typed(arguments: list[str]) -> list[str]:
    """Undo ``with_own_code``, for people to read."""
    own = [group for group in GROUPS if f"{group}=[]" in arguments]
    added = [*(f"{group}=[]" for group in own), name(own)]
    words = [word for word in arguments if not own or word not in added]
    if "dataset" in own:
        words = [word.removeprefix("+") if TASKS.match(word) else word for word in words if word != DEFAULT_TASK]
    return [re.sub(rf"^\+\+(?=({'|'.join(own) or 'dataset.(train|test|validation)'})\b)", "", word) for word in words]

"""Trust in the overrides that a folder has saved: it may be somebody else's, and no check has seen them yet."""

import re
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from pruning_lit.command_line.configs import CONF

ALLOWING = re.compile(r"[+~]*allow_targets\b")  # a folder cannot allow anything; who resumes types it again
#: What a folder may tell Hydra: which launcher and sweeper, plain numbers and words for them, and where jobs go. All
#: the rest (callbacks, logging, folders of configs, a launcher's shell commands) can run code before any check.
OF_HYDRA = re.compile(
    r"\+{0,2}(hydra/(launcher|sweeper|sweeper/sampler)=[\w-]+|hydra\.mode=\w+|hydra\.(run|sweep)\.dir=.*"
    r"|hydra\.launcher\.(n_jobs|timeout_min|cpus_per_task|gpus_per_node|tasks_per_node|nodes|mem_gb|partition|qos|account"
    r"|constraint|array_parallelism|max_num_timeout|signal_delay_s|name)=[\w.:+-]*"
    r"|hydra\.sweeper\.(n_trials|n_jobs|direction|study_name|max_batch_size|max_failure_rate|sampler\.seed)"
    r"=[\w.+\[\], -]*)"
)
SUBDIR = re.compile(r"\+{0,2}hydra\.sweep\.subdir=(.*)")
#: Choices of a group, several of them in a sweep; no way out of the folder of configs, where anything may lie.
CHOICES = re.compile(r"(?!.*\.\.)[\w.,\[\]()* -]+(/[\w.,\[\]()* -]+)*")
#: Part of a path that leads nowhere else; several values of a setting have commas.
BELOW = re.compile(r"(?!/|.*\.\.)[\w.,=+/ -]*")
#: What the name of a job's folder may be made of, whatever the folder has saved; and settings, if they are plain.
REFERENCE = re.compile(r"\$\{(hydra[:.]job\.(?:num|id)|[\w.]+)\}")
NUMBERED = re.compile(r"hydra[:.]job\.(num|id)")


def harmless(saved: Sequence[str], typed: Sequence[str], folder: object) -> list[str]:
    """Saved overrides without permissions, and without what is typed again.

    Args:
        saved: as the folder has them.
        typed: beside ``resume=``.
        folder: for the error.

    Raises:
        ValueError: others could run code, or send jobs elsewhere; they are named by their keys, for a command that
            somebody else has written is no advice.
    """
    words = [word for word in saved if not ALLOWING.match(word) and word not in typed]
    keys = {_key(word) for word in typed}
    refused = [word for word in words if not _is_harmless(word, words)]
    if told := dict.fromkeys(_key(word) for word in refused if _key(word) not in keys):
        raise ValueError(
            f"resume={folder}: what is saved there sets {', '.join(told)}, by which whoever wrote it could run code or "
            "write elsewhere; look at it, and if you trust it, type it beside resume=… yourself, else leave the folder "
            "alone"
        )
    return [word for word in words if word not in refused]


def _key(word: str) -> str:
    return word.lstrip("+~").partition("=")[0]


def _is_harmless(word: str, saved: Sequence[str]) -> bool:
    try:
        override = OverridesParser.create().parse_override(word)
    except HydraException:  # a flag of the command line, such as --config-dir
        return False
    if subdir := SUBDIR.fullmatch(word):
        return _stays_below(subdir[1].strip("'\""), saved)
    keys = (override.key_or_group, override.package or "")
    if any(re.split(r"[./:]", key)[0] == "hydra" for key in keys):
        return bool(OF_HYDRA.fullmatch(word))
    group = (CONF / override.key_or_group).is_dir()
    value = word.partition("=")[2]
    return not group or value.startswith("{") or not value or bool(CHOICES.fullmatch(value))


def _stays_below(subdir: str, saved: Sequence[str]) -> bool:
    """True if a job's folder made in this way lies below that of the sweep, whatever else is saved."""
    values = dict[str, list[str]]()
    for word in saved:
        values.setdefault(_key(word), []).append(word.partition("=")[2])
    for name in REFERENCE.findall(subdir):
        known = NUMBERED.fullmatch(name) or (name in values and all(BELOW.fullmatch(each) for each in values[name]))
        if not known:
            return False
    return bool(BELOW.fullmatch(REFERENCE.sub("x", subdir)))

"""``path=first,second``: files and folders of a command, one or several."""

from typing import Any

from omegaconf import ListConfig

from pruning_lit.command_line.quoting import quoted


def as_list(word: str, key: str = "path") -> str:
    """Turn ``path=a,b`` into one list instead of a sweep, quoted, for paths hold signs that mean something to Hydra."""
    name, _, value = word.partition("=")
    if name != key or value[:1] in ("[", "'", '"'):
        return word
    return f"{key}=[{','.join(map(quoted, value.split(',')))}]"


def named_paths(path: Any, expected: str) -> list[str]:
    """Paths of a config as text; ValueError, which says what is ``expected``, where there is none."""
    paths = [str(each) for each in path] if isinstance(path, ListConfig) else [str(path)]
    if not paths or not all(paths):
        raise ValueError(f"path= names {expected}, or several: path=first,second")
    return paths

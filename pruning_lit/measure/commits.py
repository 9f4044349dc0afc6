"""Git commits of the code that made a result."""

import subprocess
from pathlib import Path

import pruning_lit

CHANGED = ", with changes"


def commits() -> dict[str, str]:
    """Commit of this package and of the current folder, by name, as far as they are checkouts of git.

    Where tracked files differ from the commit that is said; an installed package is in no checkout of its own.
    """
    package, here = Path(pruning_lit.__file__).parent, Path.cwd()
    found = {}
    if _git(package, "ls-files", "--error-unmatch", "__init__.py") is not None:
        found["pruning_lit"] = _commit(package)
    root = _git(here, "rev-parse", "--show-toplevel")
    if root is not None and not package.is_relative_to(root):
        found[Path(root).name] = _commit(here)
    return {name: commit for name, commit in found.items() if commit}


def _commit(folder: Path) -> str:
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:  # a repository without a commit
        return ""
    return commit + CHANGED * bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))


def _git(folder: Path, *words: str) -> str | None:
    """Output of a git command; None where it fails, takes too long, or git is not there."""
    command = ["git", "--no-optional-locks", *words]  # a look only, which leaves no lock however it is ended
    try:
        told = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return told.stdout.strip() if told.returncode == 0 else None

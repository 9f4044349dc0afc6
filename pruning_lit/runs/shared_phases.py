"""Phases that several runs have in common, trained by one of them and taken over by the others."""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from pruning_lit.records.metrics_table import lines_of, replace_lines

log = logging.getLogger(__name__)

METRICS = "metrics.csv"
LAST = "last.ckpt"
NETWORKS = ("best.ckpt", LAST)


def shared_root(config: DictConfig) -> Path | None:
    """Folder of shared phases: the one that is named, else the sweep's; None: this process shares nothing.

    Where there are several processes already (a launcher's, or Lightning's own from the second phase on) all would
    have to come to the same decision, and hardly could.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) > 1 or int(os.environ.get("SLURM_NTASKS", 1)) > 1:
        return None
    if config.shared is not None:
        return Path(config.shared)
    hydra = HydraConfig.get() if HydraConfig.initialized() else None
    if hydra is None or hydra.mode != RunMode.MULTIRUN:
        return None
    return Path(hydra.runtime.cwd) / hydra.sweep.dir / "shared"


class SharedPhase:
    """A finished phase, kept for all runs that would train the same one.

    Args:
        root: folder of what is shared, ``<sweep>/shared`` in a sweep.
        name: of the phase.
        settings: plain nested data; all that decides, to the last bit, what the phase leads to.
    """

    def __init__(self, root: Path, name: str, settings: dict[str, Any]) -> None:
        text = json.dumps(settings, sort_keys=True, default=str)
        self.name, self.place = name, root / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    @contextmanager
    def reserved(self) -> Iterator[None]:
        """Reserve the phase against other processes, or wait for the end of the one that trains it."""
        self.place.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.place.with_name(f"{self.place.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("phase %s: waiting for the run that is training the same one (%s)", self.name, self.place.name)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def take_over(self, phase: Path, metrics: Path) -> bool:
        """Fill a run's folder of the phase with what another run has left; False where none has finished it.

        Args:
            phase: folder of the phase.
            metrics: the run's table of figures, which gets those of the phase.
        """
        if not self.place.is_dir() or not self._is_whole():
            return False
        phase.mkdir(parents=True, exist_ok=True)
        for old in phase.glob("*.ckpt"):  # of a sitting that was killed
            old.unlink()
        for name in NETWORKS:
            with suppress(FileNotFoundError):
                _second_name(self.place / name, phase / name)
        replace_lines(metrics, self.name, lines_of(self.place / METRICS, self.name))
        finished = json.loads((self.place / "finished.json").read_text())
        log.info("phase %s is not trained again: taken over from %s (%s)", self.name, finished["run"], self.place.name)
        _second_name(self.place / "finished.json", phase / "finished.json")  # last: it says that all is there
        return True

    def _is_whole(self) -> bool:
        """True if the networks can be read; else what is shared is thrown away, to be trained again."""
        from pruning_lit.runs.phase_checkpoint import read_checkpoint  # late: torch and Lightning

        try:
            for path in [self.place / name for name in NETWORKS if (self.place / name).is_file()]:
                read_checkpoint(path, "the phase is trained again")
        except ValueError as damage:
            log.warning("%s", damage)
            shutil.rmtree(self.place)
            return False
        return (self.place / LAST).is_file()

    def publish(self, phase: Path, metrics: Path, run: Path) -> None:
        """Offer a finished phase to the others, whole or not at all.

        Args:
            phase: folder of the phase.
            metrics: the table of figures of the run that has trained it.
            run: its folder.
        """
        draft = self.place.with_name(f".{self.place.name}.{os.getpid()}")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        try:
            self._fill(draft, phase, metrics, run)
            shutil.rmtree(self.place, ignore_errors=True)  # a rest without its last checkpoint
            os.replace(draft, self.place)
        finally:  # a full disk, say
            shutil.rmtree(draft, ignore_errors=True)

    def _fill(self, draft: Path, phase: Path, metrics: Path, run: Path) -> None:
        for name in NETWORKS:
            if (phase / name).is_file():
                _second_name(phase / name, draft / name)
        replace_lines(draft / METRICS, self.name, lines_of(metrics, self.name))
        finished = json.loads((phase / "finished.json").read_text())
        finished["run"] = os.path.relpath(run, self.place.parent.parent)
        (draft / "finished.json").write_text(json.dumps(finished) + "\n")


def _second_name(file: Path, name: Path) -> None:
    """A hard link, which costs no space; checkpoints are replaced, never written into."""
    draft = name.with_name(f".{name.name}.{os.getpid()}")
    try:
        os.link(file, draft)
    except FileNotFoundError:
        raise
    except OSError:  # another disk, or one without links
        shutil.copy2(file, draft)
    os.replace(draft, name)

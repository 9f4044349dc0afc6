"""CIFAR-10 and CIFAR-100 in their official Python archives, read by torchvision."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import torch
from filelock import FileLock
from torchvision.datasets import CIFAR10, CIFAR100
from torchvision.datasets.utils import check_integrity, download_url, extract_archive

from pruning_lit.data.in_memory import ImagesInMemory, MemoryPart, whole
from pruning_lit.data.parts import Parts


class Cifar10(ImagesInMemory):
    """50,000 training and 10,000 test images of 32×32 pixels, ten classes.

    Args:
        root: folder that holds (or gets) the archive and its unpacked files.
        download: fetch the archive when it is not in ``root``.
        **settings: see ``ImagesInMemory``.

    Source: Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images".
    """

    always_shape = (3, 32, 32)
    always_classes = 10

    source: ClassVar[type[CIFAR10]] = CIFAR10

    def __init__(self, root: str | Path, download: bool = False, **settings: Any) -> None:
        super().__init__(**settings)
        self.root = Path(root)
        self.download = download

    def prepare_data(self) -> None:
        """Unpack the archive, after fetching it when asked to.

        Raises:
            ValueError: the archive is damaged.
            FileNotFoundError: it cannot be fetched.
        """
        archive, folder = self.root / self.source.filename, self.root / self.source.base_folder
        if folder.is_dir() or not (archive.is_file() or self.download):
            return
        self.root.mkdir(parents=True, exist_ok=True)
        with FileLock(self.root / f".{folder.name}.lock"):  # all processes of a run come here, and all jobs of a sweep
            if not folder.is_dir():
                if not archive.is_file():
                    self._download()
                self._unpack(archive, folder)

    def _download(self) -> None:
        try:
            download_url(self.source.url, str(self.root), self.source.filename, self.source.tgz_md5)
        except (OSError, RuntimeError) as error:
            raise FileNotFoundError(
                f"'{self.source.url}' could not be downloaded ({error}): put the archive into '{self.root}' by hand"
            ) from error

    def _unpack(self, archive: Path, folder: Path) -> None:
        if not check_integrity(str(archive), self.source.tgz_md5):
            raise ValueError(
                f"'{archive}' is incomplete or damaged: delete it, then set dataset.download=true, or put a whole "
                "one there"
            )
        with TemporaryDirectory(prefix=f".{folder.name}.", dir=self.root) as draft:
            extract_archive(str(archive), draft)
            os.replace(Path(draft) / folder.name, folder)  # whole, or not there

    def read(self) -> Parts:
        """Read both official parts.

        Raises:
            FileNotFoundError: they are not in ``root``, or damaged.
        """
        classes, train = self._part(train=True)
        _, test = self._part(train=False)
        return Parts(classes, train, test)

    def _part(self, train: bool) -> tuple[list[str], MemoryPart]:
        try:
            data = self.source(str(self.root), train=train)
        except RuntimeError as error:
            folder = self.root / self.source.base_folder
            found = (
                f"'{folder}' is incomplete or damaged: delete it, then"
                if folder.is_dir()
                else f"'{folder}' is missing:"
            )
            raise FileNotFoundError(
                f"{found} set dataset.download=true, or put {self.source.filename} into '{self.root}'"
            ) from error
        images = torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous()
        return list(data.classes), whole(images, torch.tensor(data.targets, dtype=torch.int64))


class Cifar100(Cifar10):
    """CIFAR-100: images of a hundred classes.

    Args: see ``Cifar10``.

    Source: Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images".
    """

    always_classes = 100

    source = CIFAR100

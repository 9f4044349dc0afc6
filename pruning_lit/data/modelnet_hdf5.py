"""ModelNet40 in HDF5: a few files, each with many clouds."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from pruning_lit.data.cloud_cache import as_cloud

NAMES = "shape_names.txt"


class Hdf5Layout:
    """``ply_data_train*.h5`` and ``ply_data_test*.h5`` with ``data (n, points, 3)`` and ``label (n, 1)``.

    Args:
        root: the folder, with ``shape_names.txt``.

    Raises:
        FileNotFoundError: files are missing.
        ValueError: h5py is not installed.
    """

    def __init__(self, root: Path) -> None:
        if find_spec("h5py") is None:
            raise ValueError(f"'{root}' has HDF5 files, which need another package: pip install 'pruning_lit[points]'")
        if not (root / NAMES).is_file():
            raise FileNotFoundError(f"'{root / NAMES}' is missing beside the HDF5 files")
        self.classes = (root / NAMES).read_text("utf-8").split()
        self.of_part = {part: sorted(root.glob(f"ply_data_{part}*.h5")) for part in ("train", "test")}
        for part, files in self.of_part.items():
            if not files:
                raise FileNotFoundError(f"'{root}' has no files 'ply_data_{part}*.h5'")

    @property
    def files(self) -> list[Path]:
        """All HDF5 files."""
        return [path for files in self.of_part.values() for path in files]

    def read(self, part: str, num_points: int, normals: bool) -> tuple[list[Tensor], list[int]]:
        """The first points of each cloud, and its class.

        Args:
            part: ``train`` or ``test``.
            num_points: of each cloud.
            normals: keep them, too, where the files have them.

        Raises:
            ValueError: a file is not of this layout.
        """
        clouds, classes = list[Tensor](), list[int]()
        for path in self.of_part[part]:
            data, labels = self._arrays(path, normals)
            for cloud, label in zip(data, labels, strict=True):
                if not 0 <= label < len(self.classes):
                    raise ValueError(f"'{path}' has the label {label}, but '{NAMES}' names {len(self.classes)} classes")
                clouds.append(as_cloud(cloud[:num_points], path, normals, num_points))
                classes.append(int(label))
        return clouds, classes

    def _arrays(self, path: Path, normals: bool) -> tuple[np.ndarray, Any]:
        import h5py  # an extra

        try:
            with h5py.File(path) as file:
                names = ["data", "label", *["normal"] * normals]
                if missing := [name for name in names if name not in file]:
                    mend = ": set dataset.normals=false" if missing == ["normal"] else ""
                    raise ValueError(f"'{path}' has no {missing}, only {sorted(file)}{mend}")
                data = np.concatenate([file[name][:] for name in names if name != "label"], axis=2)
                labels = file["label"][:].reshape(-1)
        except OSError as error:
            raise ValueError(f"'{path}' cannot be read as HDF5: {error}") from error
        if len(data) != len(labels):
            raise ValueError(f"'{path}' has {len(data)} clouds and {len(labels)} labels")
        return data, labels

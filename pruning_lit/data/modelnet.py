"""ModelNet40: clouds of 40 classes of objects, in any of its three layouts."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pruning_lit.data.cloud_cache import cached, require_cache_file
from pruning_lit.data.clouds import CloudPart, PointCloudData
from pruning_lit.data.modelnet_hdf5 import Hdf5Layout
from pruning_lit.data.modelnet_meshes import LAYOUT, MeshLayout
from pruning_lit.data.modelnet_text import NAMES, TextLayout
from pruning_lit.data.parts import Parts

Layout = TextLayout | Hdf5Layout | MeshLayout


def layout_of(root: Path) -> Layout:
    """The layout of a folder; FileNotFoundError where it is none of the three."""
    if not root.is_dir():
        found = "is missing"
    elif (root / NAMES).is_file():
        return TextLayout(root)
    elif any(root.glob("ply_data_*.h5")):
        return Hdf5Layout(root)
    elif any(root.glob("*/train")):
        return MeshLayout(root)
    else:
        found = "has nothing of it"
    raise FileNotFoundError(
        f"ModelNet40 is expected in '{root}', which {found}: put '{NAMES}' with its lists and folders of text there "
        f"(modelnet40_normal_resampled), or ply_data_train*.h5 and ply_data_test*.h5 (modelnet40_ply_hdf5_2048), or "
        f"meshes, {LAYOUT}"
    )


class ModelNet40(PointCloudData):
    """9,843 training and 2,468 test objects of 40 classes: the first points of each cloud, or points on each mesh.

    Args:
        batch_size, val_fraction, split_seed, seed, drop_last: as for ``DataModule``.
        root: a folder in one of three layouts: resampled text with normals, HDF5, or meshes.
        num_points: of each cloud.
        normals: give them, too; HDF5 files mostly have none.
        cache: file that keeps the clouds between runs; it is made anew when files or settings change. None: they are
            read in every run, which takes minutes.
        **settings: see ``PointCloudData``.

    Raises:
        ValueError: a setting is out of its range.

    Source: Wu et al. 2015, "3D ShapeNets: A Deep Representation for Volumetric Shapes"; the resampled clouds are those
    of Qi et al. 2017, "PointNet++".
    """

    vertical = 1

    def __init__(
        self,
        batch_size: int,
        root: str | Path,
        num_points: int = 1024,
        normals: bool = False,
        cache: str | Path | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(batch_size, num_points, **settings)
        self.root, self.normals, self.cache = Path(root), normals, require_cache_file(cache)

    def prepare_data(self) -> None:
        """Fill the cache, where there is one, before several processes want to read it."""
        if self.cache is not None and self._parts is None:
            self._tensors(layout_of(self.root))

    def read(self) -> Parts:
        """Read both parts, or take them from the cache.

        Raises:
            FileNotFoundError: the data are not there.
            ValueError: a file is not as it is expected.
        """
        layout = layout_of(self.root)
        tensors = self._tensors(layout)
        parts = []
        for name in ("train", "test"):
            classes = tensors[f"{name}_classes"]
            parts.append(
                CloudPart(classes, torch.arange(len(classes)), tensors[f"{name}_points"], None, self.augmentation)
            )
        return Parts(layout.classes, *parts)

    def _tensors(self, layout: Layout) -> dict[str, Tensor]:
        def read() -> dict[str, Tensor]:
            tensors = {}
            for part in ("train", "test"):
                clouds, classes = layout.read(part, self.num_points, self.normals)
                tensors[f"{part}_points"], tensors[f"{part}_classes"] = torch.stack(clouds), torch.tensor(classes)
            return tensors

        settings = ["ModelNet40", self.num_points, self.normals, layout.classes, layout.of_part]
        return cached(self.cache, layout.files, settings, read)

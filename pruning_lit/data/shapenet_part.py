"""ShapeNet part: clouds of 16 categories, each point with the part that it belongs to."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from pruning_lit.data.cloud_cache import as_cloud, cached, read_rows, require_cache_file
from pruning_lit.data.clouds import NO_PART, CloudPart, PointCloudData, part_names
from pruning_lit.data.parts import Parts

NUM_PARTS = {
    "Airplane": 4, "Bag": 2, "Cap": 2, "Car": 4, "Chair": 4, "Earphone": 3, "Guitar": 3, "Knife": 2, "Lamp": 4,
    "Laptop": 2, "Motorbike": 6, "Mug": 2, "Pistol": 3, "Rocket": 3, "Skateboard": 3, "Table": 3,
}  # fmt: skip
CATEGORIES = "synsetoffset2category.txt"
LISTS = "train_test_split/shuffled_{}_file_list.json"


@dataclass(frozen=True)
class RaggedPart(CloudPart):
    """Some of the clouds of different sizes in a tensor, one behind the other; a fixed number of points is given.

    For training points are drawn with replacement. In evaluation all points of a cloud are there where they fit, and
    copies of the first that do not count fill it up; of larger clouds points are drawn without replacement, always the
    same.
    """

    starts: Tensor  # int64 (N + 1,), where clouds begin
    num_points: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a cloud as it is given: (points, 3), or (points, 6) with normals."""
        return self.num_points, self.points.shape[1]

    def cloud(self, row: int, random: Generator | None) -> tuple[Tensor, Tensor | None]:
        """Points of a cloud, and their parts."""
        begin, end = self.starts[row : row + 2].tolist()
        size = end - begin
        if random is not None:
            places = torch.randint(size, (self.num_points,), generator=random)
        elif size > self.num_points:
            places = torch.randperm(size, generator=torch.Generator().manual_seed(row))[: self.num_points]
        else:
            places = torch.cat([torch.arange(size), torch.zeros(self.num_points - size, dtype=torch.int64)])
        assert self.part_labels is not None
        parts = self.part_labels[begin + places].long()
        if random is None:
            parts[size:] = NO_PART
        return self.points[begin + places], parts


class ShapeNetPart(PointCloudData):
    """13,995 training (with the validation part) and 2,874 test clouds of 16 categories, with 50 parts.

    For training ``num_points`` are drawn from each cloud with replacement; in evaluation they are all points, or always
    the same ones, see ``RaggedPart``.

    Args:
        batch_size, val_fraction, split_seed, seed, drop_last: as for ``DataModule``.
        root: the folder ``shapenetcore_partanno_segmentation_benchmark_v0_normal``.
        num_points: in each cloud as it is given.
        normals: give them, too.
        cache: as for ``ModelNet40``.
        **settings: see ``PointCloudData``.

    Raises:
        ValueError: a setting is out of its range.

    Source: Yi et al. 2016, "A Scalable Active Framework for Region Annotation in 3D Shape Collections".
    """

    always_classes = 50
    with_parts = True
    vertical = 1

    def __init__(
        self,
        batch_size: int,
        root: str | Path,
        num_points: int = 2048,
        normals: bool = False,
        cache: str | Path | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(batch_size, num_points, **settings)
        self.root, self.normals, self.cache = Path(root), normals, require_cache_file(cache)

    def prepare_data(self) -> None:
        """Fill the cache, where there is one, before several processes want to read it."""
        if self.cache is not None and self._parts is None:
            self._tensors(self._lists())

    def read(self) -> Parts:
        """Read all parts, or take them from the cache.

        Raises:
            FileNotFoundError: the data are not there.
            ValueError: a file is not as it is expected.
        """
        names, self.categories = part_names({name: [str(i) for i in range(n)] for name, n in NUM_PARTS.items()})
        tensors = self._tensors(self._lists())
        parts = []
        for name in ("train", "test"):
            points, labels, sizes, category = (
                tensors[f"{name}_{key}"] for key in ("points", "parts", "sizes", "category")
            )
            starts = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
            members = torch.arange(len(sizes))
            parts.append(RaggedPart(category, members, points, labels, self.augmentation, starts, self.num_points))
        return Parts(names, *parts)

    def _lists(self) -> dict[str, list[tuple[Path, int]]]:
        """Files of the clouds and the numbers of their categories, of both parts."""
        if not (self.root / CATEGORIES).is_file():
            raise FileNotFoundError(
                f"ShapeNet part is expected in '{self.root}', which has no '{CATEGORIES}': put the folder "
                "shapenetcore_partanno_segmentation_benchmark_v0_normal there"
            )
        words = (self.root / CATEGORIES).read_text("utf-8").split()
        numbers = dict(zip(words[1::2], words[::2], strict=False))  # folder to name
        if unknown := sorted(set(numbers.values()) ^ set(NUM_PARTS)):
            raise ValueError(f"'{self.root / CATEGORIES}' has not the 16 categories of ShapeNet part: {unknown} differ")
        lists = {}
        for part, names in (("train", ("train", "val")), ("test", ("test",))):
            lists[part] = [each for name in names for each in self._list(self.root / LISTS.format(name), numbers)]
        return lists

    def _list(self, path: Path, numbers: dict[str, str]) -> list[tuple[Path, int]]:
        if not path.is_file():
            raise FileNotFoundError(f"'{path}' is missing")
        try:
            entries = json.loads(path.read_text("utf-8"))
        except ValueError as error:
            raise ValueError(f"'{path}' is no JSON: {error}") from error
        categories, found = list(NUM_PARTS), list[tuple[Path, int]]()
        for entry in entries:
            folder, _, token = str(entry).removeprefix("shape_data/").partition("/")
            if folder not in numbers or not token:
                raise ValueError(f"'{path}' names {entry!r}, expected shape_data/<folder of a category>/<name>")
            found.append((self.root / folder / f"{token}.txt", categories.index(numbers[folder])))
        return found

    def _tensors(self, lists: dict[str, list[tuple[Path, int]]]) -> dict[str, Tensor]:
        def read() -> dict[str, Tensor]:
            return {f"{part}_{name}": each for part, files in lists.items() for name, each in self._read(files).items()}

        paths = [path for files in lists.values() for path, _ in files]
        return cached(self.cache, paths, ["ShapeNetPart", self.normals, lists], read)

    def _read(self, files: Sequence[tuple[Path, int]]) -> dict[str, Tensor]:
        first = np.cumsum([0, *NUM_PARTS.values()])
        clouds, labels = list[Tensor](), list[Tensor]()
        for path, category in files:
            rows = read_rows(path)
            if rows.shape[1] != 7:
                raise ValueError(f"'{path}' has {rows.shape[1]} numbers in a row, expected x y z nx ny nz part")
            clouds.append(as_cloud(rows[:, :6], path, self.normals, least=1))
            if not ((rows[:, 6] >= first[category]) & (rows[:, 6] < first[category + 1])).all():
                name, own = list(NUM_PARTS)[category], f"{first[category]} to {first[category + 1] - 1}"
                raise ValueError(f"'{path}' has parts that are none of category {name}, {own}")
            labels.append(torch.from_numpy(rows[:, 6]).to(torch.uint8))
        return {
            "points": torch.cat(clouds),
            "parts": torch.cat(labels),
            "sizes": torch.tensor([len(each) for each in clouds]),
            "category": torch.tensor([category for _, category in files]),
        }

"""ModelNet40 as text, resampled with normals: a file for each cloud, and lists of names."""

from pathlib import Path

from torch import Tensor

from pruning_lit.data.cloud_cache import as_cloud, read_rows

NAMES = "modelnet40_shape_names.txt"


def lines(path: Path) -> list[str]:
    """Lines of a list that are not empty; FileNotFoundError where it is missing."""
    if not path.is_file():
        raise FileNotFoundError(f"'{path}' is missing beside '{NAMES}'")
    return [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]


class TextLayout:
    """``<class>/<class>_0001.txt`` with rows ``x,y,z,nx,ny,nz``, and ``modelnet40_{shape_names,train,test}.txt``.

    Args:
        root: the folder.

    Raises:
        FileNotFoundError: a list or the folder of a class is missing.
        ValueError: a name in a list is of a class that is not listed.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.classes = root, lines(root / NAMES)
        self.of_part = {part: lines(root / f"modelnet40_{part}.txt") for part in ("train", "test")}
        for part, names in self.of_part.items():
            kinds = dict.fromkeys(name.rpartition("_")[0] for name in names)  # night_stand_0001
            if unknown := [kind for kind in kinds if kind not in self.classes]:
                raise ValueError(f"'modelnet40_{part}.txt' names clouds of {unknown}, which '{NAMES}' does not list")
            if missing := [kind for kind in kinds if not (root / kind).is_dir()]:
                raise FileNotFoundError(
                    f"'{root}' has no folder {missing}, but 'modelnet40_{part}.txt' names clouds there"
                )

    @property
    def files(self) -> list[Path]:
        """All files of clouds."""
        return [self._path(name) for names in self.of_part.values() for name in names]

    def read(self, part: str, num_points: int, normals: bool) -> tuple[list[Tensor], list[int]]:
        """The first points of each cloud, and its class.

        Args:
            part: ``train`` or ``test``.
            num_points: of each cloud.
            normals: keep them, too.
        """
        clouds = []
        for name in self.of_part[part]:
            path = self._path(name)
            clouds.append(as_cloud(read_rows(path, num_points, ","), path, normals, num_points))
        return clouds, [self.classes.index(name.rpartition("_")[0]) for name in self.of_part[part]]

    def _path(self, name: str) -> Path:
        return self.root / name.rpartition("_")[0] / f"{name}.txt"

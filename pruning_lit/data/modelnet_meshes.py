"""ModelNet as meshes: OFF files in folders of classes, whose surfaces are sampled."""

import zlib
from itertools import pairwise
from pathlib import Path

import numpy as np
from torch import Tensor

from pruning_lit.data.cloud_cache import as_cloud

LAYOUT = "<class>/{train,test}/*.off"


class MeshLayout:
    """``<class>/train/*.off`` and ``<class>/test/*.off``; the sorted names of the folders are the classes.

    Args:
        root: the folder.

    Raises:
        FileNotFoundError: a class has no meshes in one of the parts.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.classes = sorted(each.name for each in root.iterdir() if (each / "train").is_dir())
        self.of_part = {
            part: {name: sorted((root / name / part).glob("*.off")) for name in self.classes}
            for part in ("train", "test")
        }
        for part, files in self.of_part.items():
            if missing := [name for name, paths in files.items() if not paths]:
                raise FileNotFoundError(f"'{root / missing[0] / part}' has no OFF files: expected is {LAYOUT}")

    @property
    def files(self) -> list[Path]:
        """All meshes."""
        return [path for files in self.of_part.values() for paths in files.values() for path in paths]

    def read(self, part: str, num_points: int, normals: bool) -> tuple[list[Tensor], list[int]]:
        """Points on each mesh, always the same, and its class.

        Args:
            part: ``train`` or ``test``.
            num_points: of each cloud.
            normals: those of the faces, too.
        """
        clouds, classes = list[Tensor](), list[int]()
        for number, paths in enumerate(self.of_part[part].values()):
            for path in paths:
                seed = zlib.crc32(path.relative_to(self.root).as_posix().encode())
                rows = sample_mesh(*read_off(path), num_points, np.random.default_rng(seed))
                clouds.append(as_cloud(rows, path, normals, num_points))
                classes.append(number)
        return clouds, classes


def read_off(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Vertices ``(n, 3)`` and triangles ``(m, 3)`` of an OFF file; larger faces are cut into triangles.

    Raises:
        ValueError: the file is in another format, or incomplete.
    """
    text = path.read_text("utf-8", errors="replace").lstrip()
    if not text.startswith("OFF"):
        raise ValueError(f"'{path}' does not begin with OFF")
    words = text[3:].split()  # in some files the counts follow OFF on its line, without a blank
    try:
        num_vertices, num_faces = int(words[0]), int(words[1])
        begin = 3 + 3 * num_vertices
        vertices = np.array(words[3:begin], dtype=np.float64).reshape(num_vertices, 3)
        numbers, place = [int(word) for word in words[begin:]], 0
        triangles = list[tuple[int, int, int]]()
        for _ in range(num_faces):
            corners = numbers[place + 1 : place + 1 + numbers[place]]
            triangles += [(corners[0], *pair) for pair in pairwise(corners[1:])]
            place += 1 + numbers[place]
        faces = np.array(triangles, dtype=np.int64).reshape(-1, 3)
        if place > len(numbers) or not len(faces) or not 0 <= faces.min() <= faces.max() < num_vertices:
            raise IndexError
    except (IndexError, ValueError) as error:
        raise ValueError(f"'{path}' is no complete OFF file: its counts are not those of what follows") from error
    return vertices, faces


def sample_mesh(vertices: np.ndarray, faces: np.ndarray, number: int, random: np.random.Generator) -> np.ndarray:
    """Points spread evenly over a mesh, with the normals of their faces, ``(number, 6)``.

    Args:
        vertices: ``(n, 3)``.
        faces: triangles, ``(m, 3)``.
        number: how many points.
        random: to draw from.
    """
    corners = vertices[faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    areas = np.linalg.norm(across, axis=1)
    if not areas.sum() > 0:
        return np.full((number, 6), np.nan)
    chosen = random.choice(len(faces), number, p=areas / areas.sum())
    root, share = np.sqrt(random.random(number)), random.random(number)  # evenly over a triangle
    weights = np.stack([1 - root, root * (1 - share), root * share], axis=1)
    points = (corners[chosen] * weights[:, :, None]).sum(1)
    return np.concatenate([points, across[chosen] / areas[chosen, None]], axis=1)

"""Small made-up folders in the layouts of ModelNet40 and ShapeNet part."""

import json
from pathlib import Path

import numpy as np

from pruning_lit.data.shapenet_part import NUM_PARTS

CLASSES = ["chair", "night_stand"]
NAMES = {"train": ["chair_0001", "night_stand_0001", "night_stand_0002"], "test": ["night_stand_0003", "chair_0002"]}
OFF = """OFF
4 2 0
0 0 0
2 0 0
2 1 0
0 1 0
3 0 1 2
3 0 2 3
"""


def rows(name: str, number: int = 40, columns: int = 6) -> np.ndarray:
    """Points that depend on the name."""
    return np.random.default_rng(list(name.encode())).uniform(-3, 3, (number, columns)).astype(np.float32)


def write_text(root: Path) -> Path:
    """Resampled text with normals."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "modelnet40_shape_names.txt").write_text("\n".join(CLASSES) + "\n")
    for part, names in NAMES.items():
        (root / f"modelnet40_{part}.txt").write_text("\n".join(names) + "\n")
        for name in names:
            folder = root / name.rpartition("_")[0]
            folder.mkdir(exist_ok=True)
            np.savetxt(folder / f"{name}.txt", rows(name), delimiter=",", fmt="%.6f")
    return root


def write_hdf5(root: Path, with_normals: bool = False) -> Path:
    """Two files to train, one to test."""
    import h5py

    root.mkdir(parents=True, exist_ok=True)
    (root / "shape_names.txt").write_text("\n".join(CLASSES) + "\n")
    files = {"train0": NAMES["train"][:2], "train1": NAMES["train"][2:], "test0": NAMES["test"]}
    for file, names in files.items():
        with h5py.File(root / f"ply_data_{file}.h5", "w") as written:
            clouds = np.stack([rows(name) for name in names])
            written["data"] = clouds[..., :3]
            written["label"] = np.array([[CLASSES.index(name.rpartition("_")[0])] for name in names], dtype=np.uint8)
            if with_normals:
                written["normal"] = clouds[..., 3:]
    return root


def write_meshes(root: Path) -> Path:
    """Rectangles of 2 by 1, of two triangles each."""
    for part, names in NAMES.items():
        for name in names:
            folder = root / name.rpartition("_")[0] / part
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}.off").write_text(OFF)
    return root


def write_shapenet(root: Path) -> Path:
    """Three clouds of mugs (parts 36, 37) and two of knives (22, 23), of 20 to 60 points."""
    (root / "train_test_split").mkdir(parents=True, exist_ok=True)
    folders = {name: f"{number:08d}" for number, name in enumerate(NUM_PARTS)}
    (root / "synsetoffset2category.txt").write_text("".join(f"{name}\t{each}\n" for name, each in folders.items()))
    clouds = {"train": [("Mug", "a", 20), ("Knife", "b", 60)], "val": [("Mug", "c", 30)]}
    clouds["test"] = [("Knife", "d", 50), ("Mug", "e", 25)]
    for part, each in clouds.items():
        entries = [f"shape_data/{folders[category]}/{token}" for category, token, _ in each]
        (root / "train_test_split" / f"shuffled_{part}_file_list.json").write_text(json.dumps(entries))
        for category, token, number in each:
            (root / folders[category]).mkdir(exist_ok=True)
            parts = {"Mug": 36, "Knife": 22}[category] + np.arange(number) % 2
            table = np.concatenate([rows(token, number), parts[:, None]], axis=1)
            np.savetxt(root / folders[category] / f"{token}.txt", table, fmt="%.6f")
    return root

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.data.small_images import write_images


@pytest.fixture
def make_folder(tmp_path) -> Callable[..., Path]:
    """Makes ``<tmp>/images/<part>/<class>/<n>.png``: two classes, two images of 8×6 pixels each, unless told."""

    def make(parts=("train", "test"), classes=("cat", "dog"), height=6, width=8) -> Path:
        root = tmp_path / "pictures"
        random = torch.Generator().manual_seed(0)
        for part in parts:
            for name in classes:
                pixels = torch.randint(0, 256, (2, 3, height, width), generator=random, dtype=torch.uint8)
                write_images(root / part / name, pixels)
        return root

    return make

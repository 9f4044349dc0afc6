"""Whether all ranks have decided alike."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch.distributed as dist
from pytorch_lightning import Trainer


def require_same_on_all_ranks(trainer: Trainer, kept: Mapping[str, Sequence[int]]) -> None:
    """Compare digests of the choice; ranks that cut differently would drift apart without any error."""
    digest = hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()
    if dist.is_available() and dist.is_initialized():
        digests: list[Any] = [None] * trainer.world_size
        dist.all_gather_object(digests, digest)
        assert len(set(digests)) == 1, f"ranks chose different channels: {digests}"

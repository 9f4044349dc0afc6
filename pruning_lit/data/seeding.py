"""Randomness without state: a generator for every purpose, made from numbers alone."""

import hashlib

import torch


def generator(*key: int | str) -> torch.Generator:
    """A CPU generator that depends on the key and nothing else, alike on every machine and in every process.

    Args:
        key: what the random numbers are for, such as ``("training", seed, stream, epoch)``.
    """
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)  # >> 1: a signed 64-bit seed

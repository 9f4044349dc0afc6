"""Machine and software behind a result: the processor and the versions of the libraries."""

import os
import platform
from importlib import metadata
from pathlib import Path

import torch

LIBRARIES = ("pruning_lit", "torch", "torchvision", "pytorch-lightning", "hydra-core")


def hardware(device: torch.device | str = "cpu") -> str:
    """The name of the processor behind ``device``, such as ``NVIDIA H200`` or ``AMD EPYC 7B13 (8 threads)``."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor()} ({os.cpu_count()} threads)" if device.type == "cpu" else f"{device.type}, {_processor()}"


def versions() -> dict[str, str]:
    """Versions of Python, of this package and of the libraries that shape a result, as far as installed."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    if torch.version.cuda:
        found["cuda"] = torch.version.cuda
    return found


def lacks_vnni() -> bool:
    """True on an x86 processor without VNNI, whose sums of two products of 8 bits overflow 16 bits."""
    return platform.machine().lower() in ("x86_64", "amd64") and not torch.cpu._is_vnni_supported()


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")  # platform.processor() says no more than "x86_64", or nothing, on Linux
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()

"""Everything that commands import late, imported: by the process from which the tests' commands are forked."""

import gc
import pkgutil
import threading
from importlib import import_module

import matplotlib.pyplot  # noqa: F401
import sklearn.datasets  # noqa: F401
import torch
import torch.utils.tensorboard

import pruning_lit

for found in pkgutil.walk_packages(pruning_lit.__path__, "pruning_lit."):
    if not found.name.endswith("__main__"):
        import_module(found.name)

gc.freeze()  # what is forked does not search it for garbage, which would also copy its pages
torch.set_num_threads(1)  # OpenMP of a process that is forked waits for ever for threads that have stayed behind
assert threading.active_count() == 1

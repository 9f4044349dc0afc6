"""CHEX: channels are pruned and regrown in one training from scratch (Hou et al. 2022, arXiv 2203.15794).

``method=chex`` has one phase, ``explore``: ``phase.py`` says what is explored, and trains as every phase does. Its
callback, ``stages.py``, acts every ``interval`` epochs until ``last_stage``: ``budgets.py`` says how many channels stay
and come back, ``decision.py`` which (by leverage of filters, and what those that stay cannot express), ``dormancy.py``
narrows the network, or masks it, and stores what is pruned, ``regrowth.py`` gives values to what comes back. After the
last stage the widths are final, and training goes on to its end. ``section.py`` tells the report.
"""

from pruning_lit.methods.chex.phase import Exploration
from pruning_lit.methods.chex.stages import ExplorationStages

__all__ = ["Exploration", "ExplorationStages"]

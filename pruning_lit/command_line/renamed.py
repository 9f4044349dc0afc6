"""Former names of config keys and of what a ``_target_`` may name, each with its present one."""

#: Config keys: an override, a config of one's own or a run's folder that has the old one is answered with the new one.
KEYS: dict[str, str] = {}

#: Dotted names of classes and functions.
TARGETS: dict[str, str] = {
    "pruning_lit.callbacks.ExplorationStages": "pruning_lit.methods.chex.ExplorationStages",
    "pruning_lit.callbacks.RowMasks": "pruning_lit.methods.resrep.RowMasks",
    "pruning_lit.callbacks.ScaleMonitor": "pruning_lit.methods.network_slimming.ScaleMonitor",
    "pruning_lit.criteria.CompactorNorm": "pruning_lit.methods.resrep.CompactorNorm",
    "pruning_lit.phases.Exploration": "pruning_lit.methods.chex.Exploration",
    "pruning_lit.phases.GradientReset": "pruning_lit.methods.resrep.GradientReset",
    "pruning_lit.phases.SparsityTraining": "pruning_lit.methods.network_slimming.SparsityTraining",
    "pruning_lit.report.Stopwatch": "pruning_lit.measure.Stopwatch",
    "pruning_lit.report.SweepSummary": "pruning_lit.sweeps.SweepSummary",
}

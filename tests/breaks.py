"""Deliberate breaks: small bugs as a refactoring could bring them, each with the tests that catch it.

``python -m tests.mutations`` makes them one by one; ``tests/test_mutations.py`` keeps the list true.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Break:
    """A small bug in one file, to be caught by what ``make test`` runs.

    Attributes:
        bug: in a few words.
        file: below ``pruning_lit/``.
        old, new: a text that is in it exactly once, and what takes its place.
        tests: the file below ``tests/`` that catches it.
        word: a part of the names of those tests in it that do; empty: all of them are run.
    """

    bug: str
    file: str
    old: str
    new: str
    tests: str
    word: str = ""

    def __str__(self) -> str:
        return f"{self.file}: {self.bug}"

    @property
    def room(self) -> str:
        """The package of the file."""
        return self.file.split("/")[0]


CHANNELS = [
    Break(
        "momentum is lost in a cut",
        "channels/surgery/followers.py",
        "            optimizer.state[move.new] = {key: _carried(move, value) for key, value in state.items()}\n",
        "",
        "channels/surgery/test_followers.py",
        "with_its_moments",
    ),
    Break(
        "maps that somebody still holds may lose channels",
        "channels/tracing/outputs.py",
        "    for tensor in kept:\n        tracer.freeze(tensor, KEPT)\n",
        "",
        "channels/test_constructions.py",
        "all_that_can_be_cut",
    ),
    Break(
        "the trial cut is made in eval mode only",
        "channels/surgery/rehearsal.py",
        "[graph.transcript, *graph.training]",
        "[graph.transcript]",
        "channels/test_constructions.py",
        "what_can_be_cut",
    ),
    Break(
        "training is not followed where a module reads its mode",
        "channels/tracing/passes.py",
        "tracer.asked or changes_with_mode(model)",
        "changes_with_mode(model)",
        "channels/test_constructions.py",
        "all_that_can_be_cut",
    ),
    Break(
        "paths that are dropped at random are followed as they happen to be",
        "channels/tracing/training.py",
        "    if passes[0].drew:\n",
        "    if False:\n",
        "channels/surgery/test_training_mode.py",
        "rarely_taken",
    ),
    Break(
        "a replica shares what modules remember",
        "channels/tracing/replica.py",
        "kind() if kind in CONTAINERS and not value else self.value(value)",
        "value",
        "channels/surgery/test_leaves_alone.py",
        "what_a_network_remembers",
    ),
    Break(
        "layers on which nothing depends are offered",
        "channels/surgery/trace.py",
        "        graph = graph.protect(_in_vain(graph, used, only_in_training))\n",
        "",
        "channels/surgery/test_trace.py",
        "a_layer_on_which_nothing",
    ),
    Break(
        "random numbers are not put back",
        "channels/tracing/randomness.py",
        "        random.setstate(self.before[0])\n",
        "",
        "channels/surgery/test_leaves_alone.py",
        "a_trace_changes_nothing",
    ),
    Break(
        "attention counts as drawn at random, and is evened out",
        "channels/tracing/randomness.py",
        " and operation._schema.name != ATTENTION",
        "",
        "channels/test_constructions.py",
        "what_can_be_cut_is_cut_exactly",
    ),
    Break(
        "a transposed convolution has its dimensions as any other",
        "channels/tracing/rules/layers.py",
        "dims = Dims(1, 0, channel) if transposed else Dims(0, 1, channel)",
        "dims = Dims(0, 1, channel)",
        "channels/surgery/test_trace.py",
        "transposed_convolution",
    ),
    Break(
        "a removed channel plus a number counts as zero",
        "channels/tracing/rules/elementwise.py",
        "return all(zero) and all(isinstance(argument, Tensor) for argument in args[:2])",
        "return all(zero)",
        "channels/surgery/test_trace.py",
        "what_mixes_channels",
    ),
    Break(
        "feature maps are looked at behind global pooling",
        "channels/tracing/rules/reductions.py",
        "return None if is_global else Role.FORWARDS",
        "return Role.FORWARDS",
        "channels/tracing/test_feature_maps.py",
    ),
    Break(
        "the first of several cuts at fixed numbers is forgotten",
        "channels/tracing/splits.py",
        "split.at |= {",
        "split.at = {",
        "channels/tracing/test_splits.py",
    ),
    Break(
        "channels that leave together are counted as one",
        "channels/surgery/cost.py",
        "removed[piece.tensor, piece.dim] += lost * piece.positions.shape[1]",
        "removed[piece.tensor, piece.dim] += lost",
        "channels/test_constructions.py",
        "is_cut_exactly",
    ),
    Break(
        "a number that depends on the width passes the rehearsal",
        "channels/surgery/rehearsal_tracers.py",
        "        if numbers != before.numbers:\n            raise RehearsalMismatch(self.position, BY_WIDTH)\n",
        "",
        "channels/surgery/test_rehearsal.py",
    ),
    Break(
        "another layer passes the rehearsal in the place of the one that was run",
        "channels/surgery/rehearsal_tracers.py",
        "            or tuple(map(self.name_of, given)) != step.stored\n",
        "",
        "channels/surgery/test_rehearsal.py",
        "another_layer",
    ),
    Break(
        "channels come back with their old values, whatever is given",
        "channels/surgery/widen.py",
        "values.get(name, move.old).detach()",
        "move.old.detach()",
        "channels/surgery/test_widen.py",
        "values_given",
    ),
    Break(
        "runs of one number lose channels of their own",
        "channels/surgery/literals.py",
        "identities.tie(first, other)",
        "pass",
        "channels/surgery/test_numbers.py",
        "all_numbers_that_are_widths",
    ),
    Break(
        "numbers are looked for by what does not change them",
        "channels/surgery/number_sources.py",
        "self.value(number) - 1 for",
        "self.value(number) for",
        "channels/surgery/test_numbers.py",
        "what_is_left_of_each_part",
    ),
    Break(
        "what is left beside a number is taken for a multiple of it",
        "channels/surgery/literals.py",
        " or now * value != step.sizes[at] * (value - 1):",
        ":",
        "channels/surgery/test_numbers.py",
        "all_numbers_that_are_widths",
    ),
    Break(
        "the number of a parent is never looked at",
        "channels/surgery/number_sources.py",
        "for end in reversed(range(len(parts)))",
        "for end in ()",
        "channels/surgery/test_numbers.py",
        "all_numbers_that_are_widths",
    ),
    Break(
        "a file has widths without the numbers that say them",
        "channels/surgery/numbers.py",
        "        module.register_buffer(key, values.clone())\n",
        "",
        "channels/surgery/test_numbers.py",
        "comes_back_from_its_file",
    ),
    Break(
        "a file may set numbers larger than the network's",
        "channels/surgery/numbers.py",
        "0 < new <= old for",
        "0 < new for",
        "channels/surgery/test_numbers.py",
        "smaller_widths",
    ),
    Break(
        "a widened network still has numbers in its state dict",
        "channels/surgery/numbers.py",
        "        if move.first:\n",
        "        if False:\n",
        "channels/surgery/test_numbers.py",
        "widening",
    ),
    Break(
        "without data a batch norm takes any number of channels",
        "channels/surgery/without_data.py",
        "if vector.shape[0] != x.shape[1]:",
        "if False:",
        "channels/surgery/test_without_data.py",
        "is_refused",
    ),
    Break(
        "without data a kernel takes any number of channels",
        "channels/surgery/without_data.py",
        "x.shape[1] == weight.shape[1] * groups and ",
        "",
        "channels/surgery/test_without_data.py",
        "is_refused",
    ),
    Break(
        "without data a dilated kernel is as long as any",
        "channels/surgery/without_data.py",
        " - dilation * (k - 1) - 1)",
        " - k)",
        "channels/surgery/test_without_data.py",
        "shapes_are",
    ),
    Break(
        "positions behind an earlier cut are one short",
        "channels/surgery/history.py",
        "if each > position:",
        "if each >= position:",
        "channels/surgery/test_history.py",
    ),
    Break(
        "a state dict may change the size of kernels",
        "channels/surgery/widths.py",
        "            or given.shape[2:] != tensor.shape[2:]\n",
        "",
        "channels/test_artefact.py",
        "other_shapes",
    ),
    Break(
        "a scatter takes the neighbour of each channel",
        "channels/modules/relabel.py",
        "number = inputs_stay.cumsum(0) - 1",
        "number = inputs_stay.cumsum(0)",
        "channels/modules/test_relabel.py",
    ),
    Break(
        "a folded batch norm forgets its eps",
        "channels/modules/bn_folding.py",
        "factor = (norm.running_var.double() + norm.eps).rsqrt()",
        "factor = norm.running_var.double().rsqrt()",
        "channels/modules/test_bn_folding.py",
    ),
    Break(
        "rows of channels that have to stay are pulled, too",
        "channels/modules/compactor.py",
        "        compactor.regularised.zero_()\n",
        "",
        "channels/modules/test_compactor.py",
        "regularised",
    ),
    Break(
        "a selection is put in front of a norm that is called twice",
        "channels/insertion/norm_inputs.py",
        "if norm.affine and len(given) == 1 and given[0] is not None",
        "if norm.affine and given and given[0] is not None",
        "channels/modules/test_selections.py",
        "called_once",
    ),
    Break(
        "a filled scatter leaves variances of zero",
        "channels/insertion/fill.py",
        '"running_var": 1.0',
        '"running_var": 0.0',
        "channels/insertion/test_fill.py",
        "at_their_places",
    ),
    Break(
        "a network file makes its builder fetch weights",
        "channels/artefact.py",
        "None if key.startswith(START_WEIGHTS) else value for",
        "value for",
        "channels/test_artefact.py",
        "nothing_is_fetched",
    ),
]

CRITERIA = [
    Break(
        "more images are scored than were asked for",
        "criteria/base.py",
        "each[:last]",
        "each",
        "criteria/test_scoring.py",
        "first_images",
    ),
    Break(
        "the integral of channel independence loses its upper tail",
        "criteria/channel_independence.py",
        "above @ high + upper_tail + lower_tail",
        "above @ high + lower_tail",
        "criteria/test_channel_independence.py",
        "golden",
    ),
    Break(
        "singular vectors of weak directions hold parts of strong ones",
        "criteria/channel_independence.py",
        "left = orthonormal(left) * ",
        "left = left * ",
        "criteria/test_channel_independence.py",
        "weak_channel",
    ),
    Break(
        "the integral of channel independence begins above where it turns",
        "criteria/channel_independence.py",
        "smallest = smallest.minimum(turns.amin())",
        "pass",
        "criteria/test_channel_independence.py",
        "five_decades",
    ),
    Break(
        "gates of a stream are squared before they are added",
        "criteria/taylor.py",
        "sums.square(), sums.sum(0).square()",
        "sums.square(), sums.square().sum(0)",
        "criteria/test_taylor.py",
        "gates_of_a_stream",
    ),
    Break(
        "ranks do not add up what each has seen",
        "criteria/gather.py",
        "    if shared:\n        add_over_ranks([num_images, *totals.values()])\n",
        "",
        "criteria/test_spatial_information.py",
        "two_processes",
    ),
    Break(
        "filters lie in the wrong dimension of a weight",
        "criteria/magnitude.py",
        ".transpose(0, dim)",
        "",
        "criteria/test_magnitude.py",
    ),
    Break(
        "leverage goes by the weakest singular vectors",
        "criteria/column_subset.py",
        "vectors[:, len(filters) - min(rank, num_vectors) :]",
        "vectors[:, : min(rank, num_vectors)]",
        "criteria/test_column_subset.py",
        "leverage",
    ),
    Break(
        "the scale at the threshold stays",
        "criteria/bn_scale.py",
        "magnitude > threshold for",
        "magnitude >= threshold for",
        "criteria/test_bn_scale.py",
        "of_the_release",
    ),
    Break(
        "filters as similar as the threshold are no neighbours",
        "criteria/redundancy_graph/decomposition.py",
        "similarity.cpu() >= threshold",
        "similarity.cpu() > threshold",
        "criteria/redundancy_graph/test_decomposition.py",
        "exactly_the_threshold",
    ),
]

SPARSITY = [
    Break(
        "a width is rounded to the nearest",
        "sparsity/rates.py",
        "math.floor(size * (1 - rate))",
        "round(size * (1 - rate))",
        "sparsity/test_rates.py",
    ),
    Break(
        "the share that stays is one of the present width",
        "sparsity/limits.py",
        "math.ceil(self.min_share * dense.sizes[group.name])",
        "math.ceil(self.min_share * group.size)",
        "sparsity/test_limits.py",
        "share_that_stays",
    ),
    Break(
        "of several overrides the first counts",
        "sparsity/limits.py",
        "self.overrides[patterns[-1]]",
        "self.overrides[patterns[0]]",
        "sparsity/test_limits.py",
        "several_overrides",
    ),
    Break(
        "every cut of a schedule goes the whole way",
        "sparsity/macs_target.py",
        "(1 - self.reduction * progress)",
        "(1 - self.reduction)",
        "sparsity/test_global_budgets.py",
        "halfway",
    ),
    Break(
        "the MACs are met before widths are rounded and floored",
        "sparsity/global_budgets.py",
        "self.goal.met(graph, self.allowed_widths(graph, dense, target), dense, progress)",
        "self.goal.met(graph, target, dense, progress)",
        "sparsity/test_plan.py",
        "rounded_network",
    ),
]

CALLBACKS = [
    Break(
        "curves of later phases are dropped when an earlier one begins again",
        "callbacks/event_files.py",
        "int(found[1]) > first_step",
        "int(found[1]) < first_step",
        "callbacks/test_event_files.py",
    ),
    Break(
        "momentum revives masked weights",
        "callbacks/masking.py",
        "        zero_optimizer_state(trainer.optimizers, net, self.masks)\n",
        "",
        "callbacks/test_execution.py",
    ),
    Break(
        "an epoch before the last cut can be the best",
        "callbacks/checkpoints.py",
        "all(callback.finished for callback in prunings)",
        "True",
        "callbacks/test_checkpoints.py",
    ),
    Break(
        "the checkpoint before the last one is not kept",
        "callbacks/checkpoints.py",
        "        if path.name == LAST and path.is_file():\n            _keep(path)\n",
        "",
        "callbacks/test_checkpoints.py",
    ),
    Break(
        "another experiment goes on from a checkpoint that lacks a setting",
        "callbacks/checkpoint_settings.py",
        "(then.keys() | now.keys())",
        "(then.keys() & now.keys())",
        "callbacks/test_checkpoint_settings.py",
    ),
    Break(
        "a step that is left out has changed the batch norms",
        "callbacks/nonfinite.py",
        "                buffer.copy_(self.buffers[name])\n",
        "                pass\n",
        "callbacks/test_nonfinite.py",
    ),
    Break(
        "every process decides alone to leave a step out",
        "callbacks/nonfinite.py",
        "trainer.strategy.reduce_boolean_decision(told is not None, all=False)",
        "told is not None",
        "callbacks/test_nonfinite.py",
    ),
    Break(
        "ranks may choose different channels",
        "callbacks/optimizer_state.py",
        "assert len(set(digests)) == 1",
        "assert digests",
        "callbacks/test_optimizer_state.py",
    ),
    Break(
        "the end of an epoch that was left behind its last batch is not made up for",
        "callbacks/missed_epoch_end.py",
        "if not (loop.restarted_mid_epoch and batches.restarted_on_train_batch_end):",
        "if loop.restarted_mid_epoch:",
        "test_faults.py",
        "asked_to_leave",
    ),
    Break(
        "the best epoch is that of an older checkpoint",
        "callbacks/checkpoints.py",
        "self.best_k_models = {} if self.so_far is None else {path: torch.tensor(self.so_far)}",
        "self.best_k_models = dict(self.best_k_models)",
        "callbacks/test_checkpoints.py",
        "so_far",
    ),
    Break(
        "an epoch that is trained again has its figures twice",
        "records/metrics_table.py",
        "int(line[1]) < first_epoch",
        "int(line[1]) <= first_epoch",
        "callbacks/test_metrics_file.py",
    ),
    Break(
        "an epoch that starts twice is cut twice",
        "callbacks/scheduled_pruning.py",
        "in self.epochs and not any(cut.epoch == trainer.current_epoch for cut in self.cuts)",
        "in self.epochs",
        "callbacks/test_scheduled_pruning.py",
    ),
]

PHASES = [
    Break(
        "the warm-up begins with a rate of zero",
        "phases/schedules.py",
        "base * (1 + past) / end",
        "base * past / end",
        "phases/test_schedules.py",
        "warm_up",
    ),
    Break(
        "biases of norms decay as those of other layers, and the other way round",
        "phases/parameter_groups.py",
        "self.decay_norm_biases if isinstance(module, NORMS) else self.decay_biases",
        "self.decay_biases if isinstance(module, NORMS) else self.decay_norm_biases",
        "phases/test_parameter_groups.py",
        "biases_of_norms",
    ),
    Break(
        "synchronised batch norms do not add up gradients",
        "phases/sync_batch_norm.py",
        "        gradient = gradient.contiguous().clone()\n        dist.all_reduce(gradient)\n",
        "",
        "phases/test_sync_batch_norm.py",
    ),
    Break(
        "further terms of the loss are not trained on",
        "phases/training.py",
        "losses |= terms",
        "losses.copy().update(terms)",
        "phases/test_terms.py",
    ),
]

METHODS = [
    Break(
        "the share that comes back falls twice as fast",
        "methods/chex/budgets.py",
        "math.cos(math.pi * epoch / last_stage)",
        "math.cos(2 * math.pi * epoch / last_stage)",
        "methods/chex/test_budgets.py",
        "comes_back_is_that_of_the_release",
    ),
    Break(
        "residuals are those of zeros, not of what would come back",
        "methods/chex/decision.py",
        "projection_residual(filters_of(group, restored)",
        "projection_residual(filters_of(group, weights)",
        "methods/chex/test_decision.py",
        "would_come_back",
    ),
    Break(
        "what a channel last had is not remembered",
        "methods/chex/dormancy.py",
        "        self.most_recent.load_state_dict(net.state_dict())\n        return masked",
        "        return masked",
        "methods/chex/test_dormancy.py",
        "every_bit_that_it_had",
    ),
    Break(
        "masked rows go on learning from the task",
        "methods/resrep/phase.py",
        "gradient.masked_fill_(compactor.mask.view(-1, 1) == 0, 0.0)",
        "gradient.masked_fill_(compactor.mask.view(-1, 1) != 0, 0.0)",
        "methods/resrep/test_phase.py",
        "recorded_one",
    ),
    Break(
        "masks grow one interval too early",
        "methods/resrep/pace.py",
        "return step > self.start and",
        "return step >= self.start and",
        "methods/resrep/test_row_masks.py",
        "behind_the_start",
    ),
    Break(
        "masks forget how many rows they had",
        "methods/resrep/gradual.py",
        "sum(map(len, masked.values())) + granularity",
        "granularity",
        "methods/resrep/test_gradual.py",
        "walk_through_all_rows",
    ),
    Break(
        "scales that have to stay are penalised, too",
        "methods/network_slimming/phase.py",
        "scale.sign() if flags is None else scale.sign() * flags",
        "scale.sign()",
        "methods/network_slimming/test_phase.py",
        "flagged_entries",
    ),
    Break(
        "an epoch that is resumed in its middle has no penalty",
        "methods/network_slimming/phase.py",
        '        """Find the penalised scales: an epoch that is resumed in the middle is not started again."""\n'
        "        self.find_scales()\n",
        '        """Find nothing."""\n',
        "methods/network_slimming/test_phase.py",
    ),
]

DATA = [
    Break(
        "images that are held out are trained on",
        "data/parts.py",
        "replace(part, members=part.members[~chosen])",
        "replace(part, members=part.members)",
        "data/test_image_data.py",
        "held_out",
    ),
    Break(
        "a resumed run leaves out the beginning of every later epoch",
        "data/loader.py",
        "return finished if epoch == self.sampler.epoch else 0",
        "return finished",
        "data/test_resume.py",
        "dropped_in_other_epochs",
    ),
    Break(
        "ranks have unequal shares of the last batch",
        "data/sampler.py",
        "(rest if self.drop_last else rest % self.world_size)",
        "(rest if self.drop_last else 0)",
        "data/test_sampler.py",
        "ranks_batches_together",
    ),
    Break(
        "photographs lie as the camera was held",
        "data/image_file.py",
        "ImageOps.exif_transpose(image, in_place=True)",
        "ImageOps.exif_transpose(image)",
        "data/test_image_file.py",
        "exif",
    ),
    Break(
        "what was read by other rules stays in the cache",
        "data/listing.py",
        "json.dumps([READING, size, parts])",
        "json.dumps([size, parts])",
        "data/test_image_folder.py",
        "other_rules",
    ),
    Break(
        "images decoded to another size are taken from the cache",
        "data/listing.py",
        "json.dumps([READING, size, parts])",
        "json.dumps([READING, parts])",
        "data/test_image_folder.py",
        "stale_cache",
    ),
    Break(
        "windows move down where they should move right",
        "data/augment.py",
        "windows[every, :, corners[:, 0], corners[:, 1]]",
        "windows[every, :, corners[:, 1], corners[:, 0]]",
        "data/test_augment.py",
    ),
]

TASKS = [
    Break(
        "labels are smoothed in evaluation, too",
        "tasks/classification.py",
        "self.label_smoothing if training else 0.0",
        "self.label_smoothing",
        "tasks/test_classification.py",
    ),
    Break(
        "the loss of a smaller batch counts as much as that of others",
        "tasks/evaluation.py",
        "loss += task.size(batch) * total(losses)",
        "loss += total(losses)",
        "tasks/test_evaluation.py",
    ),
    Break(
        "pixels without a class are learned",
        "tasks/semantic_segmentation.py",
        "as_classes(targets), ignore_index=self.ignore_index)",
        "as_classes(targets).clamp(max=self.num_classes - 1))",
        "tasks/test_semantic_segmentation.py",
    ),
    Break(
        "blended classes have the shares of each other",
        "tasks/mixup.py",
        "torch.lerp(classes[order], classes, share)",
        "torch.lerp(classes, classes[order], share)",
        "tasks/test_mixup.py",
        "blended_in_the_shares",
    ),
]

MODELS = [
    Break(
        "trained norms of torchvision's first detectors add to variances what they did not in training",
        "models/detectors.py",
        "            layer.running_var -= layer.eps\n",
        "            layer.running_var -= 0\n",
        "models/test_detectors.py",
        "trained_weights",
    ),
    Break(
        "default boxes reach over the edge of the image",
        "models/ssd_network.py",
        "image_size, precise).clamp(0, 1)",
        "image_size, precise)",
        "models/test_ssd_golden.py",
        "default_boxes",
    ),
    Break(
        "the loss of a batch is the sum over images",
        "models/ssd_network.py",
        "for losses in images]).mean()",
        "for losses in images]).sum()",
        "models/test_ssd_golden.py",
        "loss_and_its_gradients",
    ),
    Break(
        "stages of the first ResNets lower the resolution in their 3x3",
        "models/mask_rcnn_body.py",
        "block.conv1.stride, block.conv2.stride = (stride, stride), (1, 1)",
        "block.conv1.stride, block.conv2.stride = (1, 1), (stride, stride)",
        "models/test_mask_rcnn.py",
        "filled_backbone",
    ),
    Break(
        "a view has heads of boxes and masks, but not of keypoints",
        "models/detector_views.py",
        "            for part in HEADS\n",
        "            for part in HEADS[:2]\n",
        "models/test_detector_views.py",
        "keypoints",
    ),
    Break(
        "kernels start with the variance of what they read",
        "models/start.py",
        'mode="fan_out"',
        'mode="fan_in"',
        "models/test_cifar_resnet.py",
        "kernels_start",
    ),
    Break(
        "averaged weights are taken because they come first",
        "models/state_dicts.py",
        "return -self.covered, _usual(self.place), ",
        "return -self.covered, 0, ",
        "models/test_weights.py",
        "every_usual_form",
    ),
    Break(
        "a network is half filled when the error comes",
        "models/weights.py",
        "source), copy.deepcopy(model)",
        "source), model",
        "models/test_slimming_checkpoint.py",
        "stays_as_it_was",
    ),
    Break(
        "a pruned file changes the number of classes",
        "models/slimming_checkpoint.py",
        "{key: tensor for key, tensor in weights.items() if key not in LOGITS}",
        "dict(weights)",
        "models/test_slimming_checkpoint.py",
        "number_of_classes",
    ),
]

MEASURE = [
    Break(
        "the dense network always goes first",
        "measure/stopwatch.py",
        "range(len(nets)) if turn % 2 == 0 else reversed(range(len(nets)))",
        "range(len(nets))",
        "measure/test_stopwatch.py",
        "in_turns",
    ),
    Break(
        "storages that nobody holds any more are counted",
        "measure/memory.py",
        "        self.sizes = {storage: size for storage, size in self.sizes.items() if not storage.expired()}\n",
        "",
        "measure/test_memory.py",
    ),
]

RECORDS = [
    Break(
        "a speed-up is one of the dense network",
        "records/latency.py",
        "return before.median_ms / after.median_ms if",
        "return after.median_ms / before.median_ms if",
        "measure/test_stopwatch.py",
        "speedup",
    ),
]

REPORTS = [
    Break(
        "a speed-up between latencies that overlap is none",
        "records/latency.py",
        "if apart and steady",
        "if steady",
        "reports/test_record.py",
        "noisy",
    ),
    Break(
        "a reduction is one of the pruned network",
        "reports/record.py",
        "before == 0 else 1 - after / before",
        "before == 0 else 1 - before / after",
        "reports/test_record.py",
        "reductions",
    ),
    Break(
        "positions after a second cut are numbered by it",
        "reports/cuts.py",
        "    for cut in cuts:\n        history.cut(cut.gone)\n",
        "    history.cut(cuts[-1].gone if cuts else {})\n",
        "reports/test_cuts.py",
        "positions",
    ),
    Break(
        "channels that leave together are one in the report",
        "reports/groups.py",
        "(each * group.multiplicity for each in (group.size, len(positions)))",
        "(group.size, len(positions))",
        "reports/test_groups.py",
    ),
]

RUNS = [
    Break(
        "another precision on resume is not noticed",
        "runs/settings.py",
        '"phases": list(keys), **_of_the_fit(config)}',
        '"phases": list(keys)}',
        "runs/test_settings.py",
        "alters_its_numbers",
    ),
    Break(
        "a criterion of one's own is told as the choice it has replaced",
        "runs/result.py",
        " | own_targets(overrides())",
        "",
        "runs/test_result.py",
        "ones_own",
    ),
    Break(
        "a resumed run computes with another number of threads",
        "runs/threads.py",
        "elif (begun_with := _read(kept)) is not None:",
        "elif (begun_with := _read(kept)) is not None and False:",
        "runs/test_threads.py",
        "goes_on",
    ),
    Break(
        "two threads are taken that wait for each other",
        "runs/threads.py",
        "if before < WORTH_IT * after:",
        "if after < WORTH_IT * before:",
        "runs/test_threads.py",
        "worth_it",
    ),
    Break(
        "dense training depends on the phases behind it",
        "runs/settings.py",
        'others = (*later, *ONLY_READ_BY_RECIPES, "passes")',
        'others = (*ONLY_READ_BY_RECIPES, "passes")',
        "runs/test_settings.py",
        "does_not_depend_on",
    ),
    Break(
        "checkpoints of a killed sitting stay beside those taken over",
        "runs/shared_phases.py",
        "            old.unlink()\n",
        "            pass\n",
        "runs/test_shared_phases.py",
        "killed_sitting",
    ),
    Break(
        "a checkpoint may name a class that prunes nothing",
        "runs/phase_checkpoint.py",
        "if isinstance(kind, type) and issubclass(kind, Pruning)",
        "if isinstance(kind, type)",
        "runs/test_stored.py",
        "no_code_of_its_own",
    ),
    Break(
        "masked channels stay in a network that is loaded",
        "runs/phase_checkpoint.py",
        "            kind.finish(view(net), like(example, next(net.parameters())), state)\n",
        "            pass\n",
        "runs/test_stored.py",
        "masked_is_gone",
    ),
]

SWEEPS = [
    Break(
        "deviations are those of a population",
        "sweeps/spread.py",
        "from statistics import fmean, stdev",
        "from statistics import fmean\nfrom statistics import pstdev as stdev",
        "sweeps/test_sweep.py",
        "sample_deviation",
    ),
    Break(
        "a job is finished whatever its settings were",
        "sweeps/finished.py",
        "noted is not None and present(noted) == json.loads(_text(settings))",
        "noted is not None",
        "sweeps/test_finished.py",
    ),
]

COMMAND_LINE = [
    Break(
        "a look at a network loads Lightning",
        "runs/inspection.py",
        "from pruning_lit.runs.settings import require_seed\n",
        "import pytorch_lightning\nfrom pruning_lit.runs.settings import require_seed\n",
        "test_start_up.py",
        "a_look",
    ),
    Break(
        "the folder of a run allows its own code",
        "command_line/saved_overrides.py",
        "if not ALLOWING.match(word) and word not in typed",
        "if word not in typed",
        "test_allow_targets.py",
        "cannot_allow_anything",
    ),
    Break(
        "true is a number",
        "command_line/setting_types.py",
        "return type(value) is origin",
        "return isinstance(value, origin)",
        "command_line/test_setting_types.py",
    ),
    Break(
        "all processes write Hydra's files",
        "command_line/ranks.py",
        "if rank == 0:",
        "if rank >= 0:",
        "command_line/test_ranks.py",
    ),
]

SYSTEM = [
    Break(
        "the quota of a container is not looked at",
        "system/processors.py",
        "min([affinity, *map(math.ceil, _quotas(root))])",
        "min([affinity])",
        "system/test_processors.py",
        "quota",
    ),
    Break(
        "a config may call what a module of ours only imports",
        "system/trusted.py",
        "return definition is not None and within(definition.module.name, packages)",
        "return definition is not None",
        "test_allow_targets.py",
        "refused_by_key_and_name",
    ),
    Break(
        "of two meanings of a name the first is taken",
        "system/source.py",
        "alike = len(set(found)) == 1",
        "alike = len(found) > 0",
        "system/test_source.py",
        "in_doubt",
    ),
    Break(
        "what is allowed for mynet is allowed for mynetwork",
        "system/trusted.py",
        'f"{name}.".startswith(f"{each}.")',
        "name.startswith(each)",
        "test_allow_targets.py",
        "part_by_part",
    ),
    Break(
        "files are written in place",
        "system/atomic.py",
        "            yield draft\n        os.replace(draft, path)\n",
        "            yield path\n",
        "system/test_atomic.py",
        "broken_off",
    ),
    Break(
        "only the first of several pickles in a file is looked at",
        "system/plain_data.py",
        "for _ in range(MOST):",
        "for _ in range(1):",
        "test_malicious_files.py",
    ),
]

BREAKS = [
    *CHANNELS, *CRITERIA, *SPARSITY, *CALLBACKS, *PHASES, *METHODS, *DATA, *TASKS, *MODELS, *MEASURE, *RECORDS,
    *REPORTS, *RUNS, *SWEEPS, *COMMAND_LINE, *SYSTEM,
]  # fmt: skip

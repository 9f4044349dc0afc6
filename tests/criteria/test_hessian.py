"""Second-order terms: golden numbers, and what makes them those of single images."""

import pytest
import torch

from pruning_lit.criteria import Hessian, NeedsData, Scoring, Taylor
from tests.criteria.given import given, golden, golden_scoring, resnet, scoring


def test_scores_are_the_golden_ones():
    case, _ = golden_scoring()
    torch.testing.assert_close(Hessian().scores(case), golden("obd_filter"), rtol=0, atol=1e-10)


def test_layers_of_a_stream_are_added():
    case = scoring(resnet(), given(3))
    total, mean, first = (Hessian(reduction).scores(case)["conv1"] for reduction in ("sum", "mean", "first"))
    torch.testing.assert_close(total, 2 * mean)
    assert bool((total > first).all())


def test_a_task_is_needed():
    case = scoring(resnet(), given(2))
    with pytest.raises(NeedsData, match="depend on the loss"):
        Hessian().scores(Scoring(case.net, case.graph, case.groups, case.data))


def test_images_count_one_by_one():
    case = scoring(resnet(), given(4))
    alone = Taylor(form="elementwise", batch_size=1).scores(case)
    torch.testing.assert_close(Hessian().scores(case), {name: each / 2 for name, each in alone.items()})

"""Which layers of a quantized network stay in float32."""

import pytest

from pruning_lit.runs.quantization import kept_in_float


def test_layers_stay_in_float_by_patterns():
    assert kept_in_float(["conv1", "layer1.conv", "fc"], ["conv*", "f?"]) == ["conv1", "fc"]
    assert kept_in_float(["conv1"], []) == []


@pytest.mark.parametrize(("patterns", "told"), [(["head"], "no layer is called 'head'"), (["*"], "leaves every layer")])
def test_a_pattern_that_leaves_nothing_to_do_is_refused(patterns, told):
    with pytest.raises(ValueError, match=told):
        kept_in_float(["conv1", "fc"], patterns)

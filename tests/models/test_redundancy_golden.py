"""The networks of the redundancy graphs' golden data compute and cost what the original ones do."""

import json

import pytest
import torch

from pruning_lit.channels import cost, trace
from tests.models.redundancy_golden import LAYER_NAMES, golden, golden_densenet10, golden_resnet8

NETWORKS = {"e2e_resnet8": golden_resnet8, "e2e_densenet10": golden_densenet10}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_golden_network_has_the_logits_of_the_original(name):
    arrays, net = golden(name), NETWORKS[name]()
    with torch.no_grad():
        logits = net(torch.from_numpy(arrays["x"]).double())
    torch.testing.assert_close(logits, torch.from_numpy(arrays["logits_unpruned"]), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_golden_network_has_the_counts_of_the_original(name):
    counted = cost(trace(NETWORKS[name](), torch.zeros(1, 3, 32, 32, dtype=torch.float64)))
    expected = json.loads(str(golden(name)["counts_json"]))["unpruned"]
    assert (counted.params, counted.macs) == (expected["params"], expected["macs"])


@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_with_weights_has_one_golden_name(name):
    layers = {key.rpartition(".")[0] for key, _ in NETWORKS[name]().named_parameters()}
    assert sorted(LAYER_NAMES[name].values()) == sorted(layers)
    assert {*golden(name)["conv_layers"]} <= LAYER_NAMES[name].keys()

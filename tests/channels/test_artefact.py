"""A network in a file comes back as it was, without pickle and without running what the file names."""

import copy

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pruning_lit.channels import adopt_on_load, load, narrow, save, trace
from pruning_lit.models import cifar_resnet, torchvision_model
from tests.channels.chance import random_kept, randomise

RESNET8 = {"_target_": "pruning_lit.models.cifar_resnet", "depth": 8, "num_classes": 10}


def narrowed(net: nn.Module, size: int = 32) -> nn.Module:
    graph = trace(randomise(net), torch.zeros(1, 3, size, size))
    narrow(net, graph, random_kept(graph, seed=1))
    return net.eval()


@pytest.fixture
def resnet(tmp_path):
    net = narrowed(cifar_resnet(8))
    save(net, tmp_path / "net.safetensors", RESNET8, accuracy=0.5)
    return net, tmp_path / "net.safetensors"


def test_a_narrowed_network_comes_back_from_its_file_alone(resnet):
    net, path = resnet
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(load(path)(x), net(x))


def test_a_network_from_its_file_trains_on_as_the_one_that_was_saved(resnet):
    net, path = resnet
    other, x, target = load(path), torch.randn(8, 3, 32, 32), torch.arange(8)
    for one in (net.train(), other.train()):
        optimizer = torch.optim.SGD(one.parameters(), lr=0.01, momentum=0.9)
        losses = []
        for _ in range(5):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(one(x), target)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < losses[0]
    for name, tensor in net.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor), name


def test_a_network_of_torchvision_comes_back(tmp_path):
    net = narrowed(torchvision_model("resnet18", num_classes=5), 64)
    arch = {"_target_": "pruning_lit.models.torchvision_model", "name": "resnet18", "num_classes": 5}
    save(net, tmp_path / "net.safetensors", arch)
    x = torch.randn(2, 3, 64, 64)
    assert torch.equal(load(tmp_path / "net.safetensors")(x), net(x))


def test_a_network_of_one_s_own_is_filled_into_the_dense_model(tmp_path):
    net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 2, 1))
    dense = copy.deepcopy(net)
    narrow(net, trace(net, torch.zeros(1, 3, 4, 4)), {"0": [1, 2, 6]})
    save(net, tmp_path / "own.safetensors")
    x = torch.randn(1, 3, 4, 4)
    assert torch.equal(load(tmp_path / "own.safetensors", dense)(x), net(x))
    with pytest.raises(ValueError, match="pass the dense model"):
        load(tmp_path / "own.safetensors")


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "torchvision.models._api.load_state_dict_from_url",  # imported there; it would unpickle what it downloads
        "torchvision.models.resnet.partial",
        "torchvision.models.no_such_network",
        "pruning_lit.models.weights.torch.load",
        "pruning_lit.models.weights.NESTINGS",
        "timm.models.load_state_dict",
        "__main__.network",
    ],
)
def test_a_builder_that_is_not_trusted_is_not_run(tmp_path, target):
    save(nn.Linear(1, 1), tmp_path / "bad.safetensors", {"_target_": target, "url": "file:///never"})
    with pytest.raises(ValueError, match="which is not trusted"):
        load(tmp_path / "bad.safetensors")


def test_nothing_is_fetched_for_a_network_whose_weights_are_in_the_file(tmp_path, monkeypatch):
    net = narrowed(torchvision_model("resnet18", num_classes=1000), 64)
    save(net, tmp_path / "net.safetensors", {"_target_": "torchvision.models.resnet18", "weights": "DEFAULT"})

    def fetch(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("weights were asked for")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fetch)
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(load(tmp_path / "net.safetensors")(x), net(x))


@pytest.mark.parametrize("arguments", [{"depth": 9}, {"width": 3}])
def test_a_builder_that_refuses_its_arguments_is_one_sentence(tmp_path, arguments):
    save(cifar_resnet(8), tmp_path / "bad.safetensors", {"_target_": "pruning_lit.models.cifar_resnet", **arguments})
    with pytest.raises(ValueError, match=r"cannot be built by 'pruning_lit.models.cifar_resnet'"):
        load(tmp_path / "bad.safetensors")


def test_a_builder_of_something_else_is_refused(tmp_path):
    arch = {"_target_": "torchvision.models.get_model_weights", "name": "resnet18"}
    save(nn.Linear(1, 1), tmp_path / "bad.safetensors", arch)
    with pytest.raises(ValueError, match="makes no network"):
        load(tmp_path / "bad.safetensors")


def test_a_truncated_file_is_one_sentence(resnet):
    _, path = resnet
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="not a readable network file"):
        load(path)


def test_a_flipped_bit_is_noticed(resnet):
    net, path = resnet
    whole = path.read_bytes()
    for place in (b"0.5", net.conv1.weight.detach().numpy().tobytes()):  # in a note, and in a weight
        content = bytearray(whole)
        content[content.index(place) + 2] ^= 1
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"is damaged \(its checksum differs\)"):
            load(path)
    path.write_bytes(whole)
    load(path)


def test_a_file_that_is_none_of_ours_is_one_sentence(tmp_path):
    path = tmp_path / "empty.safetensors"
    path.touch()
    with pytest.raises(ValueError, match="not a readable network file"):
        load(path)
    save_file({"weight": torch.zeros(2, 2)}, path)
    with pytest.raises(ValueError, match="does not say how to build its network"):
        load(path)


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load(tmp_path / "nowhere.safetensors")


def test_another_network_is_refused(resnet):
    _, path = resnet
    with pytest.raises(ValueError, match="does not fit the network"):
        load(path, cifar_resnet(14))


def test_a_network_inside_a_larger_module_adopts_narrower_weights(resnet):
    net, _ = resnet
    holder = nn.ModuleDict({"net": cifar_resnet(8)})
    adopt_on_load(holder["net"])
    holder.load_state_dict({f"net.{name}": tensor for name, tensor in net.state_dict().items()})
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(holder["net"].eval()(x), net(x))
    assert repr(holder["net"]) == repr(net)  # what the modules say about themselves is true


@pytest.mark.parametrize("side", [1, 5])
def test_other_shapes_than_widths_are_still_refused(resnet, side):
    net, _ = resnet
    dense = cifar_resnet(8)
    adopt_on_load(dense)
    state = net.state_dict()
    state["conv1.weight"] = torch.zeros(16, 3, side, side)
    with pytest.raises(RuntimeError, match=r"size mismatch for conv1.weight"):
        dense.load_state_dict(state)


def test_shared_tensors_are_saved_once_and_stay_shared(tmp_path):
    def build() -> nn.Module:
        net = nn.Sequential(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 1), nn.ReLU(), nn.Conv2d(6, 6, 1), nn.Conv2d(6, 2, 1))
        net[3].weight = net[1].weight
        return net

    net = build()
    narrow(net, trace(net, torch.zeros(1, 3, 4, 4)), {"0": [0, 2, 5]})
    save(net, tmp_path / "net.safetensors")
    back = load(tmp_path / "net.safetensors", build())
    x = torch.randn(1, 3, 4, 4)
    assert torch.equal(back(x), net(x))
    assert back[3].weight is back[1].weight

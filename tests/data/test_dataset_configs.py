import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from pruning_lit.data import DataModule
from tests.places import CONF

CONFIGS = sorted((CONF / "dataset").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_dataset_config_builds_a_data_set_with_the_seed_of_the_run(path):
    dataset = OmegaConf.load(path)
    (choice, *_) = dataset.pop("defaults")
    assert choice["/task@_global_.task"] in {each.stem for each in (CONF / "task").glob("*.yaml")}
    if OmegaConf.is_missing(dataset, "root"):
        dataset.root = "nowhere"
    for part in ("train", "test"):
        if dataset.get(part) == {}:
            dataset[part] = {"_target_": "torch.utils.data.TensorDataset"}
    run = OmegaConf.create({"seed": 5, "dataset": dataset})
    data = instantiate(run.dataset)
    assert isinstance(data, DataModule)
    assert data.seed == 5


def test_the_default_data_set_needs_nothing():
    path = next(path for path in CONFIGS if path.stem == "digits")
    dataset = OmegaConf.load(path)
    del dataset["defaults"]
    data = instantiate(OmegaConf.create({"seed": 0, "dataset": dataset}).dataset)
    data.prepare_data()
    data.setup()
    assert data.has_validation
    assert (data.num_classes, data.shape) == (10, (3, 32, 32))

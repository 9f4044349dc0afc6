"""The README's code does what is written beside it."""

import re

import torch
from hydra.utils import instantiate
from torch.utils.data import DataLoader, TensorDataset

from pruning_lit.channels import cost, trace
from pruning_lit.command_line.configs import compose
from pruning_lit.models import cifar_resnet
from tests.places import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_code_for_a_loop_of_ones_own_cuts_and_the_optimizer_follows(capsys):
    torch.manual_seed(0)
    net, images = cifar_resnet(8), torch.rand(16, 3, 16, 16)
    loader = DataLoader(TensorDataset(images, torch.arange(16) % 10), batch_size=8)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)

    def step():
        for inputs, targets in loader:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(net(inputs), targets).backward()
            optimizer.step()

    step()  # the optimizer has a momentum
    dense = cost(trace(net, images[:1])).macs
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names = {"net": net, "images": images, "loader": loader, "optimizer": optimizer}
    exec(compile(code, "README.md", "exec"), names)
    assert str(names["plan"].cost) in capsys.readouterr().out
    assert cost(trace(net, images[:1])).macs == names["plan"].cost.macs <= 0.5 * dense
    assert {parameter for group in optimizer.param_groups for parameter in group["params"]} == {*net.parameters()}
    assert {*optimizer.state} == {*net.parameters()}
    before = [parameter.detach().clone() for parameter in net.parameters()]
    step()
    assert not any(torch.equal(old, new) for old, new in zip(before, net.parameters(), strict=True))


def test_the_demo_begins_with_the_counts_that_are_told_and_its_shares_are_right():
    dense = cost(trace(instantiate(compose("experiment=demo").arch, num_classes=10), torch.zeros(1, 3, 32, 32)))
    for row, expected in (("parameters", dense.params), ("MACs", dense.macs)):
        before, after, gone = re.findall(rf"^{row} +(\S+) +(\S+) +-(\S+) %$", README, re.MULTILINE)[0]
        before, after = (int(each.replace(",", "")) for each in (before, after))
        assert before == expected
        assert gone == f"{100 * (1 - after / before):.1f}"

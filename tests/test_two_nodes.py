"""torchrun on two nodes ends like one process; the nodes are network namespaces where these can be made."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from tests.commands import TINY, environment, run_command
from tests.conftest import read_report

SAME = (*TINY, "phases=[finetune]", "finetune.optimizer.lr=0.001")
ADDRESSES = ("10.77.0.1", "10.77.0.2")


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=20)


@contextlib.contextmanager
def two_nodes():
    """For each node the words that a command on it begins with, its network interface, and the address of the first."""
    names, links = ("pruning_a", "pruning_b"), ("pruning_va", "pruning_vb")
    try:
        ip("link", "add", links[0], "type", "veth", "peer", "name", links[1])
        for name, link, address in zip(names, links, ADDRESSES, strict=True):
            ip("netns", "add", name)
            ip("link", "set", link, "netns", name)
            ip("-n", name, "addr", "add", f"{address}/24", "dev", link)
            ip("-n", name, "link", "set", link, "up")
            ip("-n", name, "link", "set", "lo", "up")
        made = True
    except (OSError, subprocess.SubprocessError):  # not root, or a machine that does not allow it
        made = False
    try:
        if made:
            yield [(["ip", "netns", "exec", name], link) for name, link in zip(names, links, strict=True)], ADDRESSES[0]
        else:
            yield [([], "lo"), ([], "lo")], "127.0.0.1"
    finally:
        if shutil.which("ip"):
            subprocess.run(["ip", "link", "del", links[0]], capture_output=True, check=False)
            for name in names:
                subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def by_torchrun(*words, timeout=200):
    """Run the command on two nodes, one process on each; their exit codes and what they printed."""
    port = free_port()
    with two_nodes() as (nodes, master):
        agents = []
        for number, (prefix, link) in enumerate(nodes):
            agent = [
                *prefix, sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--node-rank", str(number),
                "--nproc-per-node", "1", "--master-addr", master, "--master-port", port, "-m", "pruning_lit", *words,
            ]  # fmt: skip
            agents.append(
                subprocess.Popen(
                    agent,
                    env={**environment(), "GLOO_SOCKET_IFNAME": link, "PYTHONPATH": os.getcwd()},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            )
        try:
            printed = [agent.communicate(timeout=timeout)[0] for agent in agents]
        finally:
            for agent in agents:
                agent.kill()
    return [agent.returncode for agent in agents], printed


@pytest.mark.slow
def test_two_nodes_end_like_one_process_with_the_same_global_batch(tmp_path):
    run_command(*SAME, "dataset.batch_size=16", f"hydra.run.dir={tmp_path / 'one'}")
    codes, printed = by_torchrun(
        *SAME, "dataset.batch_size=8", "trainer=ddp", "trainer.devices=1", "trainer.num_nodes=2",
        "trainer.accelerator=cpu", "trainer.sync_batchnorm=true", f"hydra.run.dir={tmp_path / 'two'}",
    )  # fmt: skip
    assert codes == [0, 0], printed[0][-3000:] + printed[1][-3000:]
    one, two = (load_file(tmp_path / name / "pruned/model.safetensors") for name in ("one", "two"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-5, atol=1e-5)
    assert read_report(tmp_path / "one")["groups"] == read_report(tmp_path / "two")["groups"]
    (phase,) = read_report(tmp_path / "two")["phases"]
    assert phase["batch"] == {"pictures": 16, "per_process": 8, "processes": 2, "accumulated": 1}


@pytest.mark.slow
def test_without_a_folder_for_both_each_node_says_so():
    codes, printed = by_torchrun(*SAME, "trainer=ddp", "trainer.num_nodes=2")
    assert codes == [1, 1]
    assert any("hydra.run.dir=outputs/<name>" in text for text in printed)

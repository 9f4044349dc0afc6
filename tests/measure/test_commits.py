"""The commit of the code is told, and whether there were changes."""

import subprocess

import pytest

from pruning_lit.measure import commits


def git(folder, *words):
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    return subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """The current folder, below a checkout of somebody's own code."""
    folder = tmp_path / "mynets"
    (folder / "runs").mkdir(parents=True)
    git(folder, "init", "--quiet")
    (folder / "net.py").write_text("width = 1\n")
    git(folder, "add", "net.py")
    git(folder, "commit", "--quiet", "--message", "first")
    monkeypatch.chdir(folder / "runs")
    return folder


def test_the_commit_of_the_current_folder(checkout):
    assert commits()["mynets"] == git(checkout, "rev-parse", "HEAD")


def test_changes_are_told_but_not_what_git_does_not_follow(checkout):
    (checkout / "outputs").write_text("new")
    assert commits()["mynets"] == git(checkout, "rev-parse", "HEAD")
    (checkout / "net.py").write_text("width = 2\n")
    assert commits()["mynets"] == git(checkout, "rev-parse", "HEAD") + ", with changes"


def test_a_folder_that_is_no_checkout_has_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert commits().keys() <= {"pruning_lit"}


def test_a_checkout_without_a_commit_has_none(tmp_path, monkeypatch):
    git(tmp_path, "init", "--quiet")
    monkeypatch.chdir(tmp_path)
    assert commits().keys() <= {"pruning_lit"}


def test_without_git_there_are_none(checkout, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert commits() == {}

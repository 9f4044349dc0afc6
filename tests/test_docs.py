"""What the documentation says of files and of itself."""

import re

import pytest

from pruning_lit.command_line.configs import choices
from pruning_lit.command_line.renamed import require_present_names
from tests.places import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_within_the_repository_leads_somewhere(page):
    text = page.read_text(encoding="utf-8")
    headings = {
        re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in re.findall(r"^#+ (.*)$", text, re.M)
    }
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith("#"):
            assert link[1:] in headings, link
        elif "://" not in link:
            assert (page.parent / link.partition("#")[0]).exists(), link


def test_every_file_that_the_architecture_names_is_there():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = {each for each in re.findall(r"`(?:pruning_lit/)?([a-z_]+/[\w/]+\.(?:py|yaml))", text) if "/x" not in each}
    assert len(named) > 10
    assert not [each for each in named if not any((ROOT / top / each).exists() for top in ("", "pruning_lit"))]


def test_the_readme_is_read_in_two_minutes():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) < 700


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda page: page.name)
def test_settings_are_told_under_their_present_names(page):
    settings = re.findall(r"(?<![\w.])[a-z_]+(?:[.@][\w.]+)?=[^\s`]+|`[a-z_]+(?:\.[a-z_]+)+`", page.read_text("utf-8"))
    require_present_names(word.strip("`'") for word in settings)


#: A word such as ``phases=[train,finetune]``, which a shell takes for names of files; quoted it has a quote in front.
GLOBBED = re.compile(r"(?<![\w.+'\"\]=(\[])[+~]{0,2}[a-z][\w./@-]*=[^\s'\"`)]*?[\[{*?]")


@pytest.mark.parametrize("folder", [".", "docs", "conf"])
def test_commands_are_quoted_for_every_shell(folder):
    pages = (
        [path for path in PAGES if path.parent == ROOT / folder]
        if folder != "conf"
        else (ROOT / "conf").rglob("*.yaml")
    )
    texts = {page: re.sub(r"```python.*?```", "", page.read_text("utf-8"), flags=re.DOTALL) for page in pages}
    assert texts
    assert {page.name: found for page, text in texts.items() if (found := GLOBBED.findall(text))} == {}


@pytest.mark.parametrize("group", ["task", "dataset", "method", "criterion", "sparsity", "length", "trainer"])
def test_the_page_of_the_commands_has_every_choice(group):
    (item,) = re.findall(rf"^- `{group}`(?:[^\n]|\n  )+", (ROOT / "docs" / "commands.md").read_text("utf-8"), re.M)
    written = set(re.findall(r"`(\w+)`", re.sub(r"`(\w+_)(\d+(?:/\d+)+)`", _each, item)))
    assert set(choices(group)) <= written


def _each(found: re.Match) -> str:
    """``macs_30/50`` as ``macs_30`` and ``macs_50``."""
    return " ".join(f"`{found[1]}{number}`" for number in found[2].split("/"))

"""First lines of docstrings name their subject (see CONTRIBUTING.md)."""

import ast
import re

import pytest

from tests.places import ROOT

#: A clause or a reference where the noun or the verb should stand.
SUBJECTLESS = re.compile(r"(What|Which|Whether|How|Where|Who|Of|That|Those|The same|As|See)\b")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def subjectless(source: str) -> list[str]:
    """First lines of docstrings, private ones included, that begin with such a word."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, DOCUMENTED)]
    first = [(ast.get_docstring(node) or "").partition("\n")[0] for node in nodes]
    return [line for line in first if SUBJECTLESS.match(line)]


def test_first_lines_begin_with_a_noun_or_an_imperative() -> None:
    files = sorted((ROOT / "pruning_lit").rglob("*.py"))
    found = {str(file.relative_to(ROOT)): subjectless(file.read_text(encoding="utf-8")) for file in files}
    assert found
    assert {name: lines for name, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    ("line", "refused"),
    [
        ("See ``Sparsity``.", True),
        ("What a cut will do.", True),
        ("The same with a hundred classes.", True),
        ("Offset of a view.", False),
        ("Widths that one rate leaves.", False),
        ("Assign scores.", False),
    ],
)
def test_what_is_refused(line: str, refused: bool) -> None:
    for source in (f'"""{line}"""', f'class A:\n    """{line}"""', f'class A:\n    def f(self):\n        """{line}"""'):
        assert subjectless(source) == [line] * refused

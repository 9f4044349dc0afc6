"""A report as a page for a browser: one HTML file that needs nothing beside it, made from the Markdown text."""

import base64
import html
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

SKELETON = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>$title</title>
<style>
$style</style>
</head>
<body>
<main>
$body</main>
</body>
</html>
""")


def page(text: str, folder: Path) -> str:
    """The page of a report's Markdown.

    Pictures are within it: of ``name.png`` the drawing ``name.svg`` beside it, in which points can have names, else the
    picture itself. It loads nothing, runs no script, and follows the reader's light or dark scheme.

    Args:
        text: of the report; HTML in it is shown as it stands.
        folder: of the pictures.
    """
    markdown = MarkdownIt("commonmark", {"html": False}, renderer_cls=_Renderer).enable("table")
    title = re.search(r"^# (.+)", text, re.MULTILINE)
    style = files("pruning_lit.reports").joinpath("page.css").read_text(encoding="utf-8")
    tokens = _with_row_headings(markdown.parse(text))
    body = markdown.renderer.render(tokens, markdown.options, {"folder": folder})
    return SKELETON.substitute(title=html.escape(title[1] if title else "Report"), style=style, body=body)


class _Renderer(RendererHTML):
    """Tables that can be scrolled sideways on a narrow screen, and pictures within the page."""

    def table_open(self, *_: Any) -> str:
        return '<div class="table" role="region" aria-label="Table" tabindex="0">\n<table>\n'

    def table_close(self, *_: Any) -> str:
        return "</table>\n</div>\n"

    def image(self, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        shown, file = html.escape(tokens[index].content), env["folder"] / str(tokens[index].attrs["src"])
        drawing = file.with_suffix(".svg")
        if drawing.is_file():
            _, _, svg = drawing.read_text(encoding="utf-8").partition("<svg")  # the XML head has no place here
            return f'<span class="picture" role="group" aria-label="{shown}"><svg{svg}</span>'
        if not file.is_file():
            return shown
        data = base64.b64encode(file.read_bytes()).decode()
        return f'<img class="picture" alt="{shown}" src="data:image/png;base64,{data}">'


def _with_row_headings(tokens: list[Token]) -> list[Token]:
    """Make the first cell of every row its heading, in place, and an empty heading an ordinary cell."""
    for number, token in enumerate(tokens):
        if token.type == "th_open":
            if tokens[number + 1].content:
                token.attrSet("scope", "col")
            else:
                token.tag = tokens[number + 2].tag = "td"
        elif token.type == "td_open" and tokens[number - 1].type == "tr_open":
            token.attrSet("scope", "row")
            token.tag = tokens[number + 2].tag = "th"
    return tokens

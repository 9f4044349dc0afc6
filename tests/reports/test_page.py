"""Reports as pages: one file, well-formed, that loads nothing; looked at in a real browser where there is one."""

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pruning_lit.reports import write_report
from pruning_lit.reports.page import page
from pruning_lit.reports.plots import save, widths_figure
from pruning_lit.sweeps import write_summary
from tests.reports.test_record import example
from tests.sweeps.test_sweep import job

VOID = {"meta", "img", "br", "hr", "link"}
TEXT = """\
# A <run>: pruning report

> **Note.** All 5 < 6 & "quoted".

|  | before | after |
| --- | ---: | ---: |
| accuracy | 90.00 % | 89.00 % |
| `layer1.0.conv1` | 16 | 8 |

![a picture & its text](seen.png)

![what there is not](nothing.png)

<script>alert(1)</script>
"""


class Elements(HTMLParser):
    """All elements with their attributes and texts, in order; one that is closed out of turn fails."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[tuple[str, dict[str, str], list[str]]] = []
        self.all: list[tuple[str, dict[str, str], list[str]]] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.all.append((tag, dict(attrs), []))
        if tag not in VOID:
            self.open.append(self.all[-1])

    def handle_startendtag(self, tag, attrs):
        self.all.append((tag, dict(attrs), []))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for _, _, texts in self.open:
            texts.append(data)

    def named(self, tag: str) -> list[tuple[dict[str, str], str]]:
        """Attributes and text of the elements of a kind."""
        return [(attributes, "".join(texts).strip()) for name, attributes, texts in self.all if name == tag]


def require_alone(text: str) -> None:
    """Fail where a page would ask for anything outside of it, or run anything."""
    for tag, attributes, _ in Elements(text).all:
        assert tag not in ("script", "link", "iframe", "object", "form")
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href"):
                assert value.startswith(("data:image/png;base64,", "#")), value
    assert "default-src 'none'" in text
    assert "@import" not in text


@pytest.fixture
def run(tmp_path) -> Path:
    """The folder of a report with a picture."""
    save(widths_figure(example().groups), tmp_path / "widths.png")
    write_report(example(), tmp_path)
    return tmp_path


@pytest.fixture
def sweep(tmp_path) -> Path:
    """The folder of a sweep of two methods, three jobs."""
    job(tmp_path / "0", seed=1, accuracy=0.80)
    job(tmp_path / "1", seed=2, accuracy=0.84)
    job(tmp_path / "2", seed=1, accuracy=0.70, method="random", macs=40)
    write_summary(tmp_path)
    return tmp_path


def test_a_page_says_what_the_markdown_says_and_takes_html_in_it_for_text(tmp_path):
    (tmp_path / "seen.png").write_bytes(b"\x89PNG")
    text = page(TEXT, tmp_path)
    require_alone(text)
    elements = Elements(text)
    assert elements.named("title") == [({}, "A <run>: pruning report")]
    assert elements.named("h1") == [({}, "A <run>: pruning report")]
    assert "<script>alert(1)</script>" in elements.named("main")[0][1]
    assert [text for _, text in elements.named("blockquote")] == ['Note. All 5 < 6 & "quoted".']
    ((attributes, _),) = elements.named("img")
    assert attributes["alt"] == "a picture & its text"
    assert attributes["src"] == "data:image/png;base64,iVBORw=="
    assert "what there is not" in elements.named("main")[0][1]


def test_tables_have_headings_of_columns_and_rows(tmp_path):
    headings = [(attributes["scope"], text) for attributes, text in Elements(page(TEXT, tmp_path)).named("th")]
    assert headings == [("col", "before"), ("col", "after"), ("row", "accuracy"), ("row", "layer1.0.conv1")]


def test_the_page_of_a_run_has_all_that_its_markdown_has(run):
    text, markdown = (run / "report.html").read_text(), (run / "report.md").read_text()
    require_alone(text)
    elements = Elements(text)
    assert [text for _, text in elements.named("h2")] == re.findall(r"^## (.+)$", markdown, re.MULTILINE)
    (_, first), *_ = elements.named("table")
    for row in re.findall(r"^\| (accuracy|parameters|MACs) \| (.+) \|$", markdown, re.MULTILINE)[:3]:
        for cell in (row[0], *row[1].split(" | ")):
            assert cell in first
    assert len(elements.named("img")) == 1


def test_points_of_a_sweep_tell_their_jobs(sweep):
    text = (sweep / "summary.html").read_text()
    require_alone(text)
    assert text.count("<svg") == 1
    titles = {text for _, text in Elements(text).named("title")}
    assert "chip, half: 82.00 % at 50.0 % of the macs; job 0 (seed 1), 1 (seed 2)" in titles
    assert "random, half: 70.00 % at 40.0 % of the macs; job 2 (seed 1)" in titles
    assert {"job 0, seed 1", "job 1, seed 2"} <= titles


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.fixture
def browser():
    """A real browser, without a window."""
    playwright = pytest.importorskip("playwright.sync_api")
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()


def opened(browser, file: Path, **options):
    """A page in the browser, with what it asked for and complained of."""
    view = browser.new_context(**options).new_page()
    asked, complaints = [], []
    view.on("request", lambda request: asked.append(request.url))
    view.on("console", lambda message: complaints.append(message.text))
    view.on("pageerror", lambda error: complaints.append(str(error)))
    view.goto(file.as_uri())
    assert [url for url in asked if not url.startswith("data:")] == [file.as_uri()]
    assert complaints == []
    return view


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_a_run_in_both_schemes_and_on_a_phone(browser, run, scheme):
    view = opened(browser, run / "report.html", viewport={"width": 390, "height": 844}, color_scheme=scheme)
    assert view.evaluate("document.documentElement.scrollWidth") <= 390
    assert view.evaluate("[...document.images].every(each => each.complete && each.naturalWidth > 0)")
    shades = view.evaluate(
        "['backgroundColor', 'color'].map(name => getComputedStyle(document.body)[name].match(/\\d+/g).map(Number))"
    )
    back, text = (sum(each[:3]) / 3 for each in shades)
    assert (back > 200 and text < 60) if scheme == "light" else (back < 60 and text > 200)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_browser_finds_the_job_under_the_pointer(browser, sweep):
    view = opened(browser, sweep / "summary.html", viewport={"width": 1280, "height": 900})
    found = view.evaluate(
        """[...document.querySelectorAll('svg g title')].map(title => {
            title.parentNode.scrollIntoView({block: 'center'});
            const box = title.parentNode.getBoundingClientRect();
            const hit = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
            return [title.textContent, hit.closest('g:has(> title)')?.querySelector('title').textContent];
        })"""
    )
    names = {name for name, _ in found}
    assert any(name.startswith("random, half: 70.00 %") for name in names)
    assert all(under == name for name, under in found)

"""The pages of a site, filled with records of tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sample_records import MATRIX, entry, ranked, views

import links
from fergen_bench.experiment.method_file import MethodFile, read_method
from fergen_bench.report.site import Site, SuitePage, page_name, write
from fergen_bench.report.site.text import highlighted, inline, prose

HOSTILE = "<script>alert(1)</script>"

METHOD = '''"""Mine: <b>bold</b> & `mode`.

Source: Doe <script>alert(2)</script>, "A </title> title" (XYZ 2030).

    y = x < 1

    z = 2

- one `a<b`
- two
"""
from dataclasses import dataclass
from fergen_bench import Method
@dataclass
class Mine(Method):
    """</pre><script>alert(3)</script>"""
    mode: str = "</code><script>"  # <script>alert(4)</script>
    def fit(self, source, ctx): ...
    def predict(self, images): ...
'''


def method(folder: Path, name: str = "cafe") -> MethodFile:
    path = folder / f"{name}.py"
    path.write_text(METHOD, encoding="utf-8")
    return read_method(path)


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site of a suite of rendered faces and one of real faces, whose pages are empty."""
    root = tmp_path_factory.mktemp("site")
    rendered = [entry(**{**_arguments(record), "synthetic": True, "suite": "drawn"}) for record in MATRIX]
    hostile = [entry("a", {"a": 80, "b": 70, "c": 60}, method=HOSTILE, synthetic=True, suite="drawn")]
    pages = []
    real = [entry("rafdb", {"rafdb": 90, "ferplus": 60, "own": 50}, suite="wild")]
    for name, records in (("drawn", [*rendered, *hostile]), ("wild", real)):
        href = f"leaderboards/{name}/index.html"
        shown = views(ranked(records))
        (root / href).parent.mkdir(parents=True)
        (root / href).write_text("".join(f'<p id="b{index}"></p>' for index in range(len(shown))), encoding="utf-8")
        pages.append(SuitePage(name, href, shown, "3 runs"))
    write(root, Site(pages, [method(root), method(root, "other")], {}))
    return root


def _arguments(record: Any) -> dict[str, Any]:
    rights = {cell.target: sum(cell.confusion[i][i] for i in range(7)) for cell in record.cells}
    return {"source": record.spec.sources[0], "rights": rights}


def test_every_link_leads_to_a_page_and_nothing_is_loaded(example: Path) -> None:
    assert links.faults(example) == []
    assert {path.name for path in (example / "methods").iterdir()} == {"cafe.html", "other.html"}


def test_a_broken_link_and_a_loaded_file_are_found(tmp_path: Path) -> None:
    text = '<a href="gone.html">x</a><a href="#no">x</a><img src="https://a.b/c.png"><style>a{src:url(f.woff)}</style>'
    (tmp_path / "index.html").write_text(text, encoding="utf-8")
    assert len(links.faults(tmp_path)) == 4


def test_rendered_and_real_faces_stand_under_headings_of_their_own(example: Path) -> None:
    text = (example / "index.html").read_text(encoding="utf-8")
    real, _, drawn = text.partition("Rendered faces</h3>")
    assert "Photographs</h3>" in real
    assert "wild (real faces)" in real
    assert "wild (real faces)" not in drawn
    assert "drawn (synthetic faces)" in drawn
    assert "drawn (synthetic faces)" not in real


def test_names_and_texts_of_method_files_are_escaped(example: Path) -> None:
    for path in example.rglob("*.html"):
        assert "<script" not in path.read_text(encoding="utf-8"), path.name
    page = (example / "methods" / "cafe.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(4)&lt;/script&gt;" in page
    assert "Mine: &lt;b&gt;bold&lt;/b&gt; &amp; <code>mode</code>." in page
    assert "XYZ 2030" in page
    assert "default-src &#39;none&#39;" in page


def test_the_page_of_a_method_shows_its_row_and_matrix(example: Path) -> None:
    page = (example / "methods" / "cafe.html").read_text(encoding="utf-8")
    assert "drawn (synthetic faces)" in page
    assert "wild (real faces)" in page
    assert '<td class="cell source"' in page
    other = (example / "methods" / "other.html").read_text(encoding="utf-8")
    assert "fergen-bench run --method other" in other


def test_names_of_files_stay_in_their_folder() -> None:
    assert page_name("cafe") == "cafe"
    for name in ("..", ".", "../x", "/etc/passwd", "a/b", ""):
        assert "/" not in page_name(name)
        assert page_name(name).strip(".")


def test_a_docstring_becomes_paragraphs_formulas_and_lists() -> None:
    html = prose("Text with `a<b`.\n\n    x = 1\n\n      y = 2\n\n- one\n  more\n- two\n\n1. first\n2. second")
    assert html == (
        "<p>Text with <code>a&lt;b</code>.</p>\n<pre>x = 1\n\n  y = 2</pre>\n"
        "<ul><li>one\n  more\n</li><li>two</li></ul>\n<ol><li>first\n</li><li>second</li></ol>"
    )
    assert inline("a & `b`") == "a &amp; <code>b</code>"
    assert '<span class="k">def</span>' in highlighted("def f(): ...\n")


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("page", ["index.html", "methods/cafe.html"])
def test_a_page_passes_axe_and_fits_a_phone(browser: Any, example: Path, page: str, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    context = browser.new_context(color_scheme=scheme, bypass_csp=True, viewport={"width": 360, "height": 740})
    view = context.new_page()
    view.goto((example / page).as_uri())
    assert view.evaluate("document.documentElement.scrollWidth") == 360
    found = axe.Axe().run(view).response["violations"]
    assert [(item["id"], item["nodes"][0]["html"][:200]) for item in found] == []
    context.close()

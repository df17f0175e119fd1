"""The documentation as MkDocs builds it: complete, with working links and search, and without a network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import links
from conftest import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the documentation, built as part of a site."""
    for package in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("site")
    (folder / "index.html").write_text("the index of the site", encoding="utf-8")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-f", str(ROOT / "mkdocs.yml")]
    environment = {**os.environ, "FERGEN_BENCH_SITE": "../index.html", "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        [*command, "-d", str(folder / "docs")], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_links_lead_somewhere_and_nothing_is_loaded_from_elsewhere(built: Path) -> None:
    assert links.faults(built) == []
    pages = {path.stem for path in (built / "docs").glob("*.html")}
    assert pages >= {path.stem for path in (ROOT / "docs").glob("*.md")} | {"index", "changelog", "contributing"}
    assert 'href="../index.html"' in (built / "docs" / "report.html").read_text(encoding="utf-8")


def test_the_page_of_the_api_has_the_docstrings(built: Path) -> None:
    text = (built / "docs" / "api.html").read_text(encoding="utf-8")
    assert "Run what is missing of a protocol, and return the results of all its runs." in text
    assert "fergen_bench.training.contract.Method.fit" in text


def test_search_works_from_a_folder_and_without_a_network(built: Path, browser: Any) -> None:
    view = browser.new_page()
    asked: list[str] = []
    view.on("request", lambda request: asked.append(request.url))
    view.goto((built / "docs" / "report.html").as_uri())
    view.locator("input.md-search__input").first.click()
    view.keyboard.type("bootstrap")
    view.locator(".md-search-result__item").first.wait_for()
    assert [url for url in asked if not url.startswith(("file:", "data:", "about:", "blob:"))] == []
    view.close()


def test_a_broken_link_in_a_page_is_an_error(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "mkdocs.yml"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    for name in ("benchmarks", "fergen_bench", "methods", "protocols", "results", "tests"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "LICENSE").symlink_to(ROOT / "LICENSE")
    (tmp_path / "CITATION.cff").symlink_to(ROOT / "CITATION.cff")
    (tmp_path / "docs" / "broken.md").write_text("# Broken\n\n[a](report.md#no-such-heading)\n", encoding="utf-8")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(tmp_path / "mkdocs.yml")]
    done = subprocess.run(
        [*command, "-d", str(tmp_path / "out")], capture_output=True, text=True, check=False, env={**os.environ}
    )
    assert done.returncode != 0
    assert "no-such-heading" in done.stdout + done.stderr

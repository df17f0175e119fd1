"""Hooks of MkDocs: pages of the project that lie outside of docs/, and links out of docs/.

README.md is the first page. Links are written as on GitHub, relative to the file; a linked file of the project that is
not a page is copied as text, and a link to a folder becomes its label.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from mkdocs.structure.nav import Link, Navigation

OUTSIDE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/README.md": "benchmarks.md",
}
"""Files of the project → pages."""

SITE = "FERGEN_BENCH_SITE"
"""The variable with the link to the index of a site with leaderboards, where the documentation is part of one."""

WORKER = "https://unpkg.com/iframe-worker/shim"

_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
_CODE = re.compile(r"(^ *```.*?^ *```[^\n]*$|`[^`\n]+`(?!\]))", re.DOTALL | re.MULTILINE)


def on_config(config: Any) -> Any:
    """Add pages that the navigation lacks to its end, and omit the page of errors, which only a server shows."""
    config.theme.static_templates.discard("404.html")
    named = set(re.findall(r"[\w-]+\.md", str(config.nav)))
    config.nav += sorted(path.name for path in Path(config.docs_dir).glob("*.md") if path.name not in named)
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that lie outside of docs/."""
    for path, page in OUTSIDE.items():
        files.append(File.generated(config, page, content=_read(config, path)))
    return files


def on_nav(nav: Navigation, config: Any, files: Files) -> Navigation:
    """Link to the leaderboards of a site."""
    if os.environ.get(SITE):
        nav.items.insert(1, Link("Leaderboards and methods", os.environ[SITE]))
    return nav


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turn links as GitHub reads them into links between pages."""
    origins = {name: path for path, name in OUTSIDE.items()}
    origin = origins.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    parts = _CODE.split(markdown)

    def link(found: re.Match[str]) -> str:
        target = _target(found[3], origin, config, files)
        return found[2] if target is None else f"{found[1]}[{found[2]}]({target})"

    return "".join(part if index % 2 else _LINK.sub(link, part) for index, part in enumerate(parts))


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Replace the only script that the theme loads from elsewhere; javascripts/worker.js does its work."""
    return output.replace(f'<script src="{WORKER}"></script>', '<script src="javascripts/worker.js"></script>')


def _target(link: str, origin: str, config: Any, files: Files) -> str | None:
    """Return the target of a link between pages; None for a folder."""
    path, separator, anchor = link.partition("#")
    if not path or ":" in path:
        return link
    inside = posixpath.normpath(posixpath.join(posixpath.dirname(origin), path))
    if inside in OUTSIDE:
        return OUTSIDE[inside] + separator + anchor
    if inside.startswith("docs/"):
        return inside.removeprefix("docs/") + separator + anchor
    if (_root(config) / inside).is_dir():
        return None
    copy = f"source/{inside}.txt"
    if files.get_file_from_path(copy) is None:
        files.append(File.generated(config, copy, content=_read(config, inside)))
    return copy


def _root(config: Any) -> Path:
    return Path(config.config_file_path).parent


def _read(config: Any, path: str) -> str:
    return (_root(config) / path).read_text(encoding="utf-8")

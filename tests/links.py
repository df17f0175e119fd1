"""Check the links of a folder of HTML pages, and that its pages load nothing from elsewhere."""

from __future__ import annotations

import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.styles: list[str] = []
        self._in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        own = {name: value or "" for name, value in attrs}
        self._in_style = tag == "style"
        self.ids |= {own[name] for name in ("id", "name") if name in own}
        if tag == "a" and "href" in own:
            self.links.append(own["href"])
        if tag == "link" and not {"canonical", "prev", "next"} & set(own.get("rel", "").split()):
            self.loaded.append(own["href"])
        self.loaded += [own[name] for name in ("src", "data", "poster", "background") if own.get(name)]
        self.loaded += [part.split()[0] for part in own.get("srcset", "").split(",") if part.strip()]
        self.styles.append(own.get("style", ""))

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.styles.append(data)


@cache
def _read(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def faults(folder: Path) -> list[str]:
    """Return a sentence for each link that leads nowhere or out of the folder, and each thing loaded from elsewhere."""
    return [fault for path in sorted(folder.rglob("*.html")) for fault in _faults(path.resolve(), folder.resolve())]


def _faults(path: Path, folder: Path) -> list[str]:
    page, found, here = _read(path), [], path.relative_to(folder)
    for link in [*page.links, *page.loaded]:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            if link in page.loaded and parts.scheme != "data":
                found.append(f"{here} loads {link}")
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        if not target.is_relative_to(folder) or not target.is_file():
            found.append(f"{here} links to {link}")
        elif parts.fragment and target.suffix == ".html" and unquote(parts.fragment) not in _read(target).ids:
            found.append(f"{here} links to {link}, which lacks the anchor")
    for style in page.styles:
        for address in re.findall(r"""(?:url\(|@import)\s*['"]?([^'")\s;]+)""", style):
            if not address.startswith(("data:", "#")):
                found.append(f"{here} loads {address}")
    return found

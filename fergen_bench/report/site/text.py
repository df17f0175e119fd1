"""Turn the text of method files into HTML."""

from __future__ import annotations

import re
from collections.abc import Iterable
from textwrap import dedent

from markupsafe import Markup


def prose(docstring: str) -> Markup:
    """Return a docstring as HTML: paragraphs, lists and formulas, which are indented in it."""
    blocks = (block for block in re.split(r"\n[ \t]*\n", docstring.strip("\n")) if block.strip())
    return Markup("\n").join(_block(block) for block in _joined(blocks))


def _joined(blocks: Iterable[str]) -> list[str]:
    """Join indented blocks that follow each other: they are one formula or one program."""
    found: list[str] = []
    for block in blocks:
        if found and block[0].isspace() and found[-1][0].isspace():
            found[-1] += f"\n\n{block}"
        else:
            found.append(block)
    return found


def _block(block: str) -> Markup:
    if block[0].isspace():
        return Markup("<pre>{}</pre>").format(dedent(block))
    for mark, html in ((r"- ", Markup("<ul>{}</ul>")), (r"\d+\. ", Markup("<ol>{}</ol>"))):
        if re.match(mark, block):
            items = (Markup("<li>{}</li>").format(inline(item)) for item in re.split(rf"(?m)^{mark}", block) if item)
            return html.format(Markup("").join(items))
    return Markup("<p>{}</p>").format(inline(block))


def inline(text: str) -> Markup:
    """Return text with its `names` as code."""
    parts = re.split(r"`([^`\n]+)`", text)
    code = Markup("<code>{}</code>")
    shown = (code.format(part) if index % 2 else Markup.escape(part) for index, part in enumerate(parts))
    return Markup("").join(shown)


def highlighted(text: str) -> Markup:
    """Return Python code as HTML with a class for each kind of token."""
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    html = highlight(text, PythonLexer(stripnl=False), HtmlFormatter(cssclass="code"))
    return Markup(html)  # noqa: S704 - Pygments escapes the text

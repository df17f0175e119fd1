"""Load the templates, the style and the script of pages, with the filters that templates use."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.report.rounding import tenth
from fergen_bench.report.tables import number

CHANCE = 100 / len(EXPRESSIONS)

_HERE = Path(__file__).parent


@cache
def template(name: str) -> Template:
    """Return a template of the page of a report or of the pages of a site. Jinja escapes all text in it."""
    environment = Environment(
        loader=FileSystemLoader([_HERE, _HERE.parent / "site"]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"breakable": breakable, "number": number, "share": share, "tenth": tenth}
    return environment.get_template(name)


def policy(allowed: str = "") -> str:
    """Return a policy of content that forbids every request, and every script but this one."""
    digest = base64.b64encode(hashlib.sha256(allowed.encode()).digest()).decode()
    scripts = f"script-src 'sha256-{digest}'; " if allowed else ""
    return f"default-src 'none'; {scripts}style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def style() -> Markup:
    """Return the style of the page of a report."""
    return Markup((_HERE / "page.css").read_text(encoding="utf-8"))  # noqa: S704 - our own file


def script() -> Markup:
    """Return the script of the page of a report."""
    return Markup((_HERE / "page.js").read_text(encoding="utf-8"))  # noqa: S704 - our own file


def breakable(name: str) -> Markup:
    """Return a name that a browser breaks after punctuation where it has to, and not within a word."""
    return Markup("<wbr>").join(Markup.escape(part) for part in re.split(r"(?<=[_=/,:-])", name))


def share(value: float) -> float:
    """Return the strength of a cell's colour, 0 (chance) to 1."""
    return 0.0 if pd.isna(value) else round(float(np.clip((value - CHANCE) / (100 - CHANCE), 0, 1)), 3)

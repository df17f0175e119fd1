"""Write the report as one HTML file that needs no network and no other file.

Tables are part of the HTML, and a choice of metric needs no script. The script page.js sorts and filters rows, draws
provenance, confusion matrices and the difference of two methods on request, and saves tables, from data in the page.
Jinja escapes all text, the script adds text and never markup, and a policy in the page's head forbids every request and
every script but this one.
"""

from __future__ import annotations

from fergen_bench.report.page.sheets import ShownFaces
from fergen_bench.report.page.writer import Around, Content, write

__all__ = ["Around", "Content", "ShownFaces", "write"]

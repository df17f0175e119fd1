"""Write a folder of static pages about all suites with records and all methods.

The leaderboard of each suite is a page of its own, written by `fergen_bench.report.page`; the pages here lead to it.
They need neither a server nor a script. Jinja escapes all text in them, and a policy in their head forbids requests.
"""

from __future__ import annotations

from fergen_bench.report.site.writer import Site, SuitePage, method_link, page_name, write

__all__ = ["Site", "SuitePage", "method_link", "page_name", "write"]

"""Sizes, colours and titles that figures share."""

from __future__ import annotations

import re
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fontTools import subset
from matplotlib.colors import to_rgb
from PIL import Image
from sample_records import MATRIX, entry, ranked

from fergen_bench.report import figures
from fergen_bench.report.canvas import blank
from fergen_bench.report.figures import layout


def test_a_method_has_one_colour_in_all_figures() -> None:
    tenth = [replace(item, spec=replace(item.spec, fraction=0.1)) for item in MATRIX]
    other = [replace(item, spec=replace(item.spec, method="better", fraction=0.1)) for item in MATRIX[1:2]]
    better = [entry(item.spec.sources[0], {"a": 95, "b": 95, "c": 95}, method="better") for item in MATRIX]
    both = ranked([*MATRIX, *tenth, *other, *better])
    palette = figures.colours(both)
    assert [name for name, _ in palette] == ["better", "cafe"]
    lines = figures.data_scale(both, "accuracy", palette).axes[0].lines
    assert lines[0].get_color() == palette["cafe", "synth d1d1d1"]


def test_methods_that_colours_cannot_tell_apart_are_grey() -> None:
    many = [entry("a", {"a": 90 - n, "b": 60 - n}, method=f"m{n:02}") for n in range(12)]
    palette = list(figures.colours(ranked(many)).values())
    assert len(set(palette[:9])) == 9
    assert set(palette[9:]) == {"0.65"}


@pytest.mark.parametrize("colours", [layout.HEAT, layout.DIVERGING])
def test_numbers_on_every_colour_of_a_heat_map_can_be_read(colours: Any) -> None:
    values = colours(np.linspace(0, 1, 256))[:, :3]
    light = _luminance(values) + 0.05
    dark = _luminance(np.array([to_rgb(layout.INK)])) + 0.05
    assert (light / dark).min() >= 4.5  # WCAG 2, level AA


def _luminance(colours: np.ndarray) -> np.ndarray:
    """Return the relative luminance of sRGB colours (N, 3)."""
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    return np.asarray(linear @ np.array([0.2126, 0.7152, 0.0722]))


def test_files_of_a_figure_have_its_width_and_fonts_that_publishers_take(tmp_path: Path) -> None:
    png = figures.save(figures.unseen_means(ranked(MATRIX)[0], "accuracy"), tmp_path, "unseen")
    with Image.open(png) as picture:
        assert picture.width == pytest.approx(160 * layout.COLUMN, abs=1)
    pdf = png.with_suffix(".pdf").read_bytes()
    assert b"/Type3" not in pdf.replace(b" ", b"")
    assert b"/Subtype /TrueType" in pdf or b"/CIDFontType2" in pdf
    title = figures.unseen_means(ranked(MATRIX)[0], "accuracy").get_suptitle()
    assert "selection" not in title
    assert "trained on one domain" in title


def test_fonts_in_pdfs_lack_the_tables_that_place_glyphs(tmp_path: Path) -> None:
    usual = subset.load_font
    figure = blank(2, 1)
    figure.text(0.1, 0.5, "difficult ± —")
    layout.save(figure, tmp_path, "x")
    assert subset.load_font is usual
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", (tmp_path / "x.pdf").read_bytes(), re.DOTALL)
    fonts = [font for font in map(_inflated, streams) if font[:4] == b"\0\1\0\0"]
    assert fonts
    assert all(b"glyf" in font[:400] and b"GSUB" not in font[:400] and b"GPOS" not in font[:400] for font in fonts)


def _inflated(stream: bytes) -> bytes:
    try:
        return zlib.decompress(stream)
    except zlib.error:
        return stream

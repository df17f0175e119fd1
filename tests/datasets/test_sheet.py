"""Contact sheets and class histograms: what a person looks at to find a mixed-up label map."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.data.prepared import write_prepared
from fergen_bench.datasets.sheet import COLUMNS, LABEL, SIDE, contact_sheet, contact_sheets
from fergen_bench.error import BenchError
from fergen_bench.report.figures import class_histogram


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Forty flat grey faces an expression in train, each of its own level; three in test, and no disgust there."""
    rows = [(label, number) for label in range(7) for number in range(40)]
    test = [(label, 45) for label in range(7) if EXPRESSIONS[label] != "disgust" for _ in range(3)]
    levels = np.array([35 * label + 5 + number // 2 for label, number in rows + test], np.uint8)
    faces = np.broadcast_to(levels[:, None, None, None], (len(levels), 8, 8, 3))
    columns = {
        "id": [str(number) for number in range(len(levels))],
        "expression": [EXPRESSIONS[label] for label, _ in rows + test],
        "split": ["train"] * len(rows) + ["test"] * len(test),
    }
    return write_prepared(tmp_path / "grey", "grey", [faces], columns, {"layout": "drawn"})


def shown(path: Path) -> np.ndarray:
    """The grey levels of a sheet, (7, 10)."""
    sheet = np.asarray(Image.open(path).convert("L"))
    rows = [SIDE // 3 + label * SIDE + SIDE // 2 for label in range(7)]
    return sheet[np.ix_(rows, [LABEL + column * SIDE + SIDE // 2 for column in range(COLUMNS)])].astype(int)


def test_a_row_shows_its_expression_from_all_over_the_split(folder: Path, tmp_path: Path) -> None:
    contact_sheet(folder, tmp_path / "a.png", "train")
    levels = shown(tmp_path / "a.png")
    for label in range(7):
        assert ((levels[label] >= 35 * label + 5) & (levels[label] < 35 * label + 25)).all()
    assert (np.ptp(levels, axis=1) > 9).all()  # the first ten differ by 4
    contact_sheet(folder, tmp_path / "b.png", "train")
    contact_sheet(folder, tmp_path / "c.png", "train", seed=1)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (shown(tmp_path / "c.png") != levels).any()


def test_a_sheet_for_each_split(folder: Path, tmp_path: Path) -> None:
    written = contact_sheets(folder, tmp_path / "sheets" / "grey.png")
    assert [path.name for path in written] == ["grey-train.png", "grey-test.png"]
    levels = shown(written[1])
    assert (levels[EXPRESSIONS.index("disgust")] == 255).all()
    assert (levels[0, :3] == 27).all()
    assert (levels[:, 3:] == 255).all()
    with pytest.raises(BenchError, match=r"grey does not have a val split; it has train, test"):
        contact_sheet(folder, tmp_path / "a.png", "val")


def counts(top: int) -> dict[str, object]:
    row = dict(zip(EXPRESSIONS, (top, 40, 41, 42, 43, 0, 45), strict=True))
    return {"name": "mine", "layout": "class folders", "counts": {"test": dict.fromkeys(EXPRESSIONS, 30), "train": row}}


@pytest.mark.parametrize(("top", "scale"), [(900, "linear"), (90_000, "log")])
def test_a_histogram_shows_every_count(top: int, scale: str) -> None:
    figure = class_histogram(counts(top))
    (axes,) = figure.axes
    assert axes.get_yscale() == scale
    train = [f"{count:,}" for count in (top, 40, 41, 42, 43, 0, 45)]
    assert [text.get_text() for text in axes.texts] == train + ["30"] * 7
    assert [bar.get_height() for bar in axes.patches] == [top, 40, 41, 42, 43, 0, 45, *[30] * 7]
    assert axes.get_title() == f"mine: class folders; {top + 211 + 210:,} faces"
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [f"train ({top + 211:,})", "test (210)"]
    assert axes.get_ylim()[1] > top
    plt.close(figure)


def test_a_histogram_marks_synthetic_faces() -> None:
    figure = class_histogram({**counts(900), "synthetic": True})
    assert "synthetic faces" in figure.axes[0].get_title()
    plt.close(figure)

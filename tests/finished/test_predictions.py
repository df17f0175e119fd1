"""Files of predictions, and how their rows are matched with images."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fergen_bench.data.domain import Domain, Split
from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.error import BenchError
from fergen_bench.finished.predictions import match, read_predictions


def write(path: Path, head: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        writer.writerows(rows)
    return path


@pytest.fixture
def splits(web: Domain, film: Domain) -> dict[str, Split]:
    return {"web": web.split("test"), "film": film.split("test")}


def named(split: Split, value: str = "happy") -> list[tuple[str, str]]:
    return [(name, value) for name in split.ids.tolist()]


def test_one_expression_per_image(tmp_path: Path, splits: dict[str, Split]) -> None:
    ids = splits["web"].ids.tolist()
    names = ["Happy", "surprised", "NEUTRAL", "sad"]
    rows = [(name, names[place % 4]) for place, name in enumerate(ids)]
    file = read_predictions(write(tmp_path / "p.csv", ["id", "Expression"], reversed(rows)))
    found, notes = match(file, {"web": splits["web"]})
    assert not file.scored
    assert not notes
    logits = file.logits[found["web"].rows]
    expected = [EXPRESSIONS.index(("happiness", "surprise", "neutral", "sadness")[n % 4]) for n in range(len(ids))]
    assert logits.argmax(1).tolist() == expected
    assert found["web"].missing == ()


def test_scores_of_eight_classes(tmp_path: Path, splits: dict[str, Split]) -> None:
    head = ["file", "p_neutral", "p_happy", "p_sad", "p_surprise", "p_fear", "p_disgust", "p_anger", "contempt", "age"]
    shares = np.random.default_rng(0).dirichlet(np.ones(8), len(splits["web"]))
    rows = [(name, *share, 30) for name, share in zip(splits["web"].ids, shares, strict=True)]
    file = read_predictions(write(tmp_path / "p.csv", head, rows))
    assert file.scored
    assert file.notes == ("columns that are not read: age", "dropped, and its share given to the others: contempt")
    probability = np.exp(file.logits) / np.exp(file.logits).sum(1, keepdims=True)
    assert np.allclose(probability[:, EXPRESSIONS.index("anger")], shares[:, 6] / shares[:, :7].sum(1), atol=1e-5)


def test_parquet(tmp_path: Path, splits: dict[str, Split]) -> None:
    frame = pd.DataFrame(
        {"id": splits["web"].ids, **{name: np.linspace(0, k, 100) for k, name in enumerate(EXPRESSIONS)}}
    )
    frame.to_parquet(tmp_path / "p.parquet")
    file = read_predictions(tmp_path / "p.parquet")
    assert match(file, {"web": splits["web"]})[0].keys() == {"web"}
    assert file.logits.shape == (100, 7)


def test_file_names_stand_for_ids(tmp_path: Path, splits: dict[str, Split]) -> None:
    for change in (lambda name: f"C:\\faces\\{name}.png", lambda name: f"./{name}", lambda name: f"/data/{name}.jpg"):
        rows = [(change(name), "fear") for name in splits["web"].ids.tolist()]
        found, notes = match(
            read_predictions(write(tmp_path / "p.csv", ["image", "pred"], rows)), {"web": splits["web"]}
        )
        assert found["web"].missing == ()
        assert not notes


def test_missing_images_are_named_and_more_rows_are_counted(tmp_path: Path, splits: dict[str, Split]) -> None:
    rows = [*named(splits["web"])[3:], ("elsewhere-1", "sad"), ("elsewhere-2", "sad")]
    found, notes = match(read_predictions(write(tmp_path / "p.csv", ["id", "label"], rows)), {"web": splits["web"]})
    assert found["web"].missing == tuple(splits["web"].ids[:3].tolist())
    assert notes == ["2 rows are of no image that is scored, and ignored: elsewhere-1 and elsewhere-2"]


def test_two_predictions_of_one_image_are_refused(tmp_path: Path, splits: dict[str, Split]) -> None:
    rows = [*named(splits["web"]), named(splits["web"])[7]]
    file = read_predictions(write(tmp_path / "p.csv", ["id", "label"], rows))
    with pytest.raises(BenchError, match=r"1 image has two or more predictions in web: .* \(lines 9 and 102\)"):
        match(file, {"web": splits["web"]})


def test_an_id_of_two_targets_needs_a_column(tmp_path: Path, splits: dict[str, Split]) -> None:
    both = {"web": splits["web"], "copy": splits["web"]}
    with pytest.raises(BenchError, match="is an image of web and of copy; add a column target"):
        match(read_predictions(write(tmp_path / "p.csv", ["id", "label"], named(splits["web"]))), both)
    rows = [(name, label, target) for target in both for name, label in named(splits["web"])]
    file = read_predictions(write(tmp_path / "q.csv", ["id", "label", "target"], rows))
    assert match(file, both)[0].keys() == both.keys()
    with pytest.raises(BenchError, match="its rows are of web and copy, and the targets are film"):
        match(file, {"film": splits["film"]})


def test_numbers_need_an_order(tmp_path: Path, splits: dict[str, Split]) -> None:
    rows = [(name, place % 7) for place, name in enumerate(splits["web"].ids.tolist())]
    path = write(tmp_path / "p.csv", ["id", "label"], rows)
    with pytest.raises(BenchError, match="expression is the number 0; state the order with --classes"):
        read_predictions(path)
    assert read_predictions(path, EXPRESSIONS).logits.argmax(1).tolist() == [n % 7 for n in range(100)]
    from_1 = write(tmp_path / "q.csv", ["id", "label"], [(name, number + 1) for name, number in rows])
    with pytest.raises(BenchError, match=r":8: the expression is 7, and 7 classes are stated.*begin --classes with -,"):
        read_predictions(from_1, EXPRESSIONS)
    assert read_predictions(from_1, ("", *EXPRESSIONS)).logits.argmax(1).tolist() == [n % 7 for n in range(100)]


SCORES = ["id", *EXPRESSIONS]


@pytest.mark.parametrize(
    ("head", "row", "words"),
    [
        (["id", "label"], ("=cmd|' /C calc'!A0", "sad"), ":2: .* is a formula of a spreadsheet"),
        (["id", "label"], ("@SUM(A1)", "sad"), ":2: .* is a formula"),
        (["id", "label"], ("-cmd|x", "sad"), ":2: .* is a formula"),
        (["id", "label"], ("a", "=1+1"), ":2: .* is a formula"),
        (["id", "label"], ("a", "contempt"), ":2: 'contempt' is not one of the seven expressions; give a score"),
        (["id", "label"], ("", "sad"), ":2: '' is empty"),
        (["id", "label"], ("a\x1b[2J", "sad"), "control characters"),
        (SCORES, ("a", 1, 2, 3, 4, 5, 6, "nan"), ":2: neutral is 'nan', not a finite number"),
        (SCORES, ("a", 1, 2, 3, 4, 5, 6, "inf"), ":2: neutral is 'inf'"),
        (SCORES, ("a", 1, 2, 3, 4, 5, 6, ""), ":2: neutral is ''"),
        (SCORES, ("a", 1, 2, 3, 4, 5, 6, "=2+3"), ":2: neutral is '=2\\+3', a formula"),
        (["id", "happy", "sad"], ("a", 1, 2), "without a column for surprise"),
        (["id", "happy", "happiness", "sad"], ("a", 1, 2, 3), "happiness occurs twice"),
        (
            [*SCORES, "label"],
            ("a", 1, 2, 3, 4, 5, 6, 0, "fear"),
            "the expression is fear, and the largest score is that of anger",
        ),
        (["face", "label"], ("a", "sad"), "no column has the ids of images"),
        (["id", "age"], ("a", "3"), "neither a column of expressions nor one of scores"),
        (["id;label"], ("a;sad",), "divided by ';' here"),
    ],
)
def test_faults_name_the_line(head: list[str], row: tuple[object, ...], words: str, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=words):
        read_predictions(write(tmp_path / "p.csv", head, [row]))


def test_other_files(tmp_path: Path) -> None:
    for name, content, words in (
        ("p.txt", b"x", "read from .csv and .parquet"),
        ("p.csv", b"id,label\n", "no row"),
        ("p.csv", b"", "no row"),
        ("p.csv", "id,label\na,sad\n".encode("utf-16"), "UTF-16"),
        ("p.parquet", b"PAR1" + bytes(100) + b"PAR1", "cannot be read as Parquet"),
        ("p.parquet", b"", "cannot be read as Parquet"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BenchError, match=words):
            read_predictions(tmp_path / name)
    with pytest.raises(BenchError, match="cannot be read: No such file"):
        read_predictions(tmp_path / "absent.csv")

"""The scores on images held out of the sources, in records and in tables."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from examples import finished, rewritten
from sample_predictions import gathered, keep, predictions
from sample_records import MATRIX, confusion, ranked, shown, views

from fergen_bench.error import BenchError
from fergen_bench.records import store
from fergen_bench.records.frame import cells_frame
from fergen_bench.records.mlflow_values import metrics_of
from fergen_bench.records.record import HELD_OUT, confusion_of
from fergen_bench.records.verify import verify
from fergen_bench.report.leaderboard import leaderboard_frame
from fergen_bench.report.markdown import markdown

HELD = predictions(np.array([0, 0, 0, 1]), np.array([True, True, False, True]))


def test_a_record_keeps_the_confusion_of_held_out_images_and_its_key(tmp_path: Path) -> None:
    with_it, without = finished(source_val=confusion_of(HELD)), finished()
    assert with_it.spec.key == without.spec.key
    assert store.load(store.save(with_it, tmp_path)) == with_it
    found = cells_frame([with_it])[["source_val_accuracy", "source_val_balanced_accuracy"]]
    assert found.iloc[0].tolist() == pytest.approx([75.0, 100 * (2 / 3 + 1) / 2])
    assert cells_frame([without]).source_val_accuracy.isna().all()
    assert metrics_of(with_it)["accuracy/source_val"] == 0.75
    assert "accuracy/source_val" not in metrics_of(without)


@pytest.mark.parametrize("wrong", [[[1]], [[-1] * 7] * 7])
def test_a_confusion_that_cannot_be_is_a_fault(tmp_path: Path, wrong: list[list[int]]) -> None:
    path = store.save(finished(source_val=confusion_of(HELD)), tmp_path)
    rewritten(path, lambda content: content.update(source_val=wrong))
    with pytest.raises(BenchError, match="the confusion matrix of the held-out images"):
        store.load(path)


def test_verify_counts_held_out_images_again(tmp_path: Path) -> None:
    record = keep(tmp_path / "runs", {"b": HELD, HELD_OUT: HELD})
    store.save(replace(record, source_val=confusion(3, 1)), tmp_path / "runs", {"b": HELD, HELD_OUT: HELD})
    (fault,) = [text for text in verify(tmp_path, lambda method: "m" * 64).faults if "held-out" in text]
    assert "the confusion matrix of the held-out images differs from that of its predictions in 1 of 4" in fault


def test_early_records_have_the_scores_from_their_predictions(tmp_path: Path) -> None:
    records = [keep(tmp_path, {"b": HELD, HELD_OUT: HELD}), keep(tmp_path, {"b": HELD}, seed=1)]
    _, cells = gathered(records, tmp_path)
    assert cells.source_val_accuracy.tolist() == pytest.approx([75.0, np.nan], nan_ok=True)


def test_leaderboards_show_them_unranked_and_a_dash_where_there_are_none() -> None:
    scored = [replace(record, source_val=confusion(80 + place, 20 - place)) for place, record in enumerate(MATRIX)]
    others = [replace(record, spec=replace(record.spec, method="zz")) for record in MATRIX]
    (view,) = views(ranked([*scored, *others]))
    by_name = {row.name: row for row in view.rows}
    assert by_name["cafe"].source_val == pytest.approx(81.0)
    assert np.isnan(by_name["zz"].source_val)
    (note,) = [note for note in view.notes if note.startswith("source-val: ")]
    assert "not ranked by it; — where a method learned from them too" in note
    assert leaderboard_frame([view]).set_index("method").source_val_accuracy["cafe"] == pytest.approx(81.0)
    text = markdown([view])
    assert "| source-val | source-val, balanced |" in text
    assert re.search(r"^\| zz .*\| — \| — \| 1 \|", text, re.MULTILINE)
    assert re.search(r"source-val", shown([*scored, *others], width=200))
    (plain,) = views(ranked(MATRIX))
    assert not any("source-val" in note for note in plain.notes)
    assert "source-val" not in markdown([plain])

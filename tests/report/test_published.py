"""Published tables and their comparison with measured ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from examples import finished
from sample_records import MATRIX, PLAIN, REAL, adapted, board, confusion, entry, ranked, shown, views, with_annotators

from fergen_bench.error import BenchError
from fergen_bench.experiment.project import find_project
from fergen_bench.experiment.run import Exposure
from fergen_bench.experiment.shipped import shipped
from fergen_bench.records.record import Cell
from fergen_bench.report import folder, published


def shipped_table(name: str) -> published.Published:
    (found,) = [one for one in published.read_published(shipped("results") / "published") if one.name == name]
    return found


def test_the_published_table_is_read_and_stands_apart() -> None:
    table = shipped_table("cafe_table1")
    assert len(table.cells) == 125
    assert "ECCV 2024" in table.about
    summary = published.summary(table).set_index("method")
    # The paper's printed means, over five targets with the source among them; the second prints 60.27 (an erratum).
    cafe = table.cells[table.cells.method == "CAFE"].groupby("source").accuracy.mean()
    assert cafe["rafdb"] == pytest.approx(63.48, abs=0.005)
    assert cafe["affectnet"] == pytest.approx(61.67, abs=0.005)
    assert summary.loc["CAFE", "rafdb"] == pytest.approx(57.17, abs=0.005)
    text = shown(REAL, tabulated=[table])
    assert "Published, not measured here" in text
    assert text.index("Published") < text.index("Leaderboard")
    assert "CAFE" not in text[text.index("Leaderboard") :]


def test_printed_means_that_are_none_stand_beside_the_right_ones() -> None:
    table = shipped_table("cafe_table1")
    assert published.misprints(table)[1:] == [
        ["EAC", "affectnet", "53.09", "53.29", "-0.20"],
        ["CAFE", "affectnet", "60.27", "61.67", "-1.40"],
    ]
    right = pd.DataFrame({"method": ["CAFE"], "source": ["rafdb"], "accuracy": [63.48]})
    assert published.misprints(replace(table, printed=right)) == []
    assert not any("target mean" in note for note in table.notes)
    assert "61.67" not in shown(REAL, tabulated=[table])  # on the page alone


def test_only_whole_lines_of_a_published_table_are_comments(tmp_path: Path) -> None:
    text = "# Source #1\nmethod,source,target,accuracy\nCNN #2,a,b,61.5\n# more\n"
    (tmp_path / "t.csv").write_text(text)
    (tmp_path / "._t.csv").write_bytes(b"\0\5\26\7\0\2\0\0Mac OS X        \xff")
    (table,) = published.read_published(tmp_path)
    assert (table.about, table.notes) == ("Source #1", ("more",))
    assert table.cells.to_dict("records") == [{"method": "CNN #2", "source": "a", "target": "b", "accuracy": 61.5}]
    (tmp_path / "knn_ablation.csv").write_text("# S\nvariant,target,accuracy\nk #1,a,50\nk #1,b,60\n")
    assert published.read_published_ablation(tmp_path, "knn") == ("S", {"k #1": 55.0})


def test_published_cells_stand_beside_measured_ones_where_both_exist(tmp_path: Path, sketched: None) -> None:
    table = shipped_table("cafe_table1")
    records = [entry("rafdb", {"rafdb": 90, "ferplus": 70, "own": 50})]
    ((name, printed, difference),) = published.beside(table, board(records))
    assert (name, printed.shape) == ("CAFE", (5, 5))
    assert difference.loc["rafdb", "rafdb"] == pytest.approx(90 - 88.72)
    assert difference.notna().sum().sum() == 2
    text = shown(records, width=200, tabulated=[table])
    conditions = "s (real faces): trained on one source, last checkpoint, official splits"
    assert f"measured here minus published ({conditions})" in text
    assert "+1.3" in text
    folder.write(tmp_path, views(ranked(records)), [table])
    assert "| rafdb | 88.7 +1.3 | 73.2 -3.2 | 45.9 |" in (tmp_path / "leaderboard.md").read_text()


def test_published_cells_stand_beside_those_of_one_precision() -> None:
    table = shipped_table("cafe_table1")
    full, half = (entry("rafdb", {"rafdb": 90, "ferplus": 70}, precision=kind) for kind in ("fp32", "bf16"))
    assert [name for name, _, _ in published.beside(table, board([half]))] == ["CAFE"]
    assert not list(published.beside(table, board([full, half])))
    assert set(board([full, half]).table.method) == {"cafe", "cafe (precision=bf16)"}
    for change in ({"parameters": {"gate": "linear"}}, {"views": ("plain", "mirror")}, {"prior": 0.5}):
        changed = entry("rafdb", {"rafdb": 90, "ferplus": 70}, **change)
        assert not list(published.beside(table, board([changed])))


def test_published_tables_stand_where_a_domain_of_theirs_was_measured(tmp_path: Path, sketched: None) -> None:
    table = shipped_table("cafe_table1")
    rendered = [replace(item, spec=replace(item.spec, synthetic=True)) for item in REAL]
    for name, records, there in (("near", REAL, True), ("own", MATRIX, False), ("rendered", rendered, False)):
        assert ("SCN" in shown(records, tabulated=[table])) is there
        folder.write(tmp_path / name, views(ranked(records)), [table])
        assert ("Published" in (tmp_path / name / "leaderboard.md").read_text()) is there


def test_published_numbers_above_a_single_annotator_are_named_with_a_reason() -> None:
    table = shipped_table("cafe_table1")
    assert published.above_annotator(table, ranked(REAL)) == []
    (said,) = published.above_annotator(table, ranked(with_annotators(REAL, {"ferplus": 0.7780})))
    above = table.cells[(table.cells.target == "ferplus") & (table.cells.accuracy > 77.8)]
    assert said.startswith("Above a single annotator, as measured on the labels here (ferplus 77.8): ")
    first = above.iloc[0]
    assert f"{first.method} from {first.source} {first.accuracy:.2f}" in said
    assert "the label of several votes is easier to predict" in said
    assert "Above a single annotator, as" in shown(with_annotators(REAL, {"ferplus": 0.778}), tabulated=[table])


def test_the_tables_of_adaptation_and_of_zero_shot_have_their_settings_and_errata() -> None:
    every = published.read_published(shipped("results") / "published")
    settings = {one.name: (one.setting, len(one.cells)) for one in every}
    assert settings == {
        "cafe_table1": ("generalization", 125),
        "cd_fer": ("adaptation", 300),
        "zero_shot_exp_clip": ("zero-shot", 18),
        "zero_shot_gpt4v": ("zero-shot", 5),
    }
    table = shipped_table("cd_fer")
    assert published.misprints(table) == []  # the printed means of rows are right; those of columns are in a note
    columns = table.cells.groupby(["backbone", "source", "target"]).accuracy.mean()
    assert columns["ResNet-50", "rafdb", "sfew"] == pytest.approx(50.48, abs=0.006)
    assert columns["ResNet-18", "afe", "sfew"] == pytest.approx(46.69, abs=0.006)
    means = table.printed.groupby(["backbone", "source"]).accuracy.mean()
    assert means["ResNet-18", "afe"] == pytest.approx(53.82, abs=0.006)
    assert any(all(number in note for number in ("50.48", "46.69", "53.82")) for note in table.notes)
    frame = published.summary(table)
    assert list(frame) == ["method", "ckplus", "jaffe", "sfew", "fer2013", "expw", "mean"]
    first = frame.set_index("method").loc["ICID, ResNet-50 from rafdb"]
    assert first.tolist() == [74.42, 50.7, 48.85, 53.7, 69.54, 59.44]


def test_eight_classes_never_stand_beside_seven() -> None:
    table = shipped_table("zero_shot_exp_clip")
    assert "ferplus" not in set(table.cells.target)
    told = "Left out, since they are over 8 classes and these are 7: ferplus of CLIP B/32, Exp-CLIP B/32"
    assert told in table.notes[-1]
    assert "ferplus" in set(shipped_table("zero_shot_gpt4v").cells.target)
    assert list(published.summary(table)) == ["method", "rafdb", "affectnet"]


def test_the_note_on_affectnet_is_true() -> None:
    cafe, gpt = (shipped_table(name).cells for name in ("cafe_table1", "zero_shot_gpt4v"))
    transfers = cafe[(cafe.target == "affectnet") & (cafe.source != "affectnet")].accuracy
    shot = gpt[gpt.target == "affectnet"].iloc[0]
    assert (transfers.max(), shot.accuracy, shot.faces) == (45.86, 49.09, 3500)
    for name in ("cafe_table1", "zero_shot_gpt4v"):
        assert any("49.09" in note and "45.86" in note for note in shipped_table(name).notes)


def test_published_tables_stand_beside_their_own_conditions_alone() -> None:
    adapting = [adapted("rafdb", "sfew", 90, 50)]
    untrained = [entry("rafdb", {"rafdb": 60, "sfew": 50}, method="zero_shot")]
    elsewhere = replace(PLAIN, method="external:gpt", sources=(), fingerprints={}, exposure=Exposure((), None))
    elsewhere = replace(elsewhere, targets={"rafdb": "f"}, relations={"rafdb": "unseen"}, selection="unknown")
    models = [finished(elsewhere, cells=(Cell("rafdb", "f", "unseen", confusion(50, 50)),))]
    trained = [replace(models[0], spec=replace(elsewhere, exposure=Exposure(("rafdb",), None)))]
    beside = {
        "cafe_table1": [REAL, untrained, models, trained],
        "cd_fer": [adapting],
        "zero_shot_exp_clip": [untrained, models],
        "zero_shot_gpt4v": [untrained, models],
    }
    for name, expected in beside.items():
        table = shipped_table(name)
        for records in (REAL, adapting, untrained, models, trained, MATRIX):
            there = any(records is one for one in expected)
            assert bool(published.concerned(table, ranked(records))) is there, (name, records[0].spec)
    assert "ICID, ResNet-50 from rafdb" in shown(adapting, width=200, tabulated=[shipped_table("cd_fer")])


def test_zero_shot_methods_are_those_of_the_group() -> None:
    project = find_project(shipped("methods"))
    group = {name for name in project.methods() if project.method(name).group == "zero-shot"}
    assert group == published.ZERO_SHOT


def test_a_setting_that_does_not_exist_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("# S\n# setting: adaption\nmethod,source,target,accuracy\nA,a,b,1\n")
    with pytest.raises(BenchError, match=r"t\.csv: setting: 'adaption' is not a setting; did you mean adaptation\?"):
        published.read_published(tmp_path)

from __future__ import annotations

import re
from dataclasses import replace
from io import StringIO
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from examples import SPEC, finished
from rich.console import Console

from fergen_bench.data.corruption import CLEAN, VERSION
from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.experiment.project import shipped
from fergen_bench.records.frame import cells_frame, shifted_frame
from fergen_bench.records.record import Cell, RunRecord, ShiftedCell
from fergen_bench.report import choosing, details, evidence, page, plots, published, render, tables
from fergen_bench.report.render import Ablation
from fergen_bench.report.rounding import tenth

PLAIN = replace(SPEC, parameters={"gate": "sigmoid"}, defaults={"gate": "sigmoid"}, weights={})


def confusion(right: int, wrong: int) -> list[list[int]]:
    matrix = np.zeros((7, 7), int)
    matrix[0, 0], matrix[0, 1] = right, wrong
    return matrix.tolist()


def entry(source: str, rights: dict[str, int], seed: int = 0, seen: str = "", **changes: Any) -> RunRecord:
    """A record whose accuracies in per cent are `rights`, by target."""
    relations = {name: "source" if name == source else "seen" if name == seen else "unseen" for name in rights}
    spec = replace(PLAIN, sources=(source,), fingerprints={source: "f"}, seed=seed, relations=relations, **changes)
    cells = tuple(Cell(name, "f", relations[name], confusion(right, 100 - right)) for name, right in rights.items())
    return finished(replace(spec, targets=dict.fromkeys(rights, "f")), cells=cells)


MATRIX = [
    entry("a", {"a": 90, "b": 60, "c": 50}),
    entry("b", {"a": 70, "b": 80, "c": 40}),
    entry("c", {"a": 50, "b": 40, "c": 60}),
]


REAL = [entry("rafdb", {"rafdb": 90, "ferplus": 60, "own": 50})]


def ranked(records: list[RunRecord]) -> list[tables.Board]:
    return list(tables.boards(cells_frame(records), "accuracy"))


def board(records: list[RunRecord], metric: str = "accuracy") -> tables.Board:
    (only,) = tables.boards(cells_frame(records), metric)
    return only


def test_means_are_over_all_and_over_unseen_targets() -> None:
    (row,) = board(MATRIX).table.itertuples()
    assert row.in_domain == pytest.approx((90 + 80 + 60) / 3)
    assert row.all == pytest.approx(540 / 9)
    assert row.unseen == pytest.approx((60 + 50 + 70 + 40 + 50 + 40) / 6)
    assert row.worst == pytest.approx(45)  # c, over a and b
    assert (row.seeds, row.cells, row.asked) == (1, 9, 9)
    assert np.isnan(row.unseen_sd)


def test_runs_that_left_near_duplicates_out_do_not_stand_beside_others_in_silence() -> None:
    plain = [entry("a", {"a": 90, "b": 60, "c": 50}, seed=seed) for seed in (0, 1)]
    fewer = replace(plain[1].cells[1], confusion=confusion(57, 40), excluded="0123456789ab")
    mixed = replace(plain[1], cells=(plain[1].cells[0], fewer, plain[1].cells[2]))
    said = "Not to be compared: near-duplicates are left out of b in some runs and scored in others"
    assert not any(said in note for note in render.board_notes(board(plain)))
    assert any(said in note for note in render.board_notes(board([plain[0], mixed])))


def test_a_method_that_is_not_all_that_its_name_promises_says_so_below_the_table(tmp_path: Path) -> None:
    noted = [entry("a", {"a": 90, "b": 60}, note="the classifier alone")]
    assert "cafe: the classifier alone" in render.board_notes(board(noted))
    render.write(tmp_path, ranked(noted), "accuracy", [], [])
    assert "cafe: the classifier alone" in (tmp_path / "leaderboard.md").read_text()


def collapsing(record: RunRecord, target: str, said: int = 3) -> RunRecord:
    """The record of a run that called every face of a target the same; seven of seventy are right."""
    matrix = np.zeros((7, 7), int)
    matrix[:, said] = 10
    cells = (replace(cell, confusion=matrix.tolist()) if cell.target == target else cell for cell in record.cells)
    return replace(record, cells=tuple(cells))


def test_a_classifier_that_says_one_thing_alone_is_marked_and_said_to_be(tmp_path: Path) -> None:
    seen = entry("c", {"a": 50, "b": 40, "c": 60}, seen="a")
    marked = replace(seen, cells=(replace(seen.cells[0], mark="seen (declared)"), *seen.cells[1:]))
    records = [collapsing(MATRIX[0], "b"), MATRIX[1], collapsing(marked, "a")]
    cells = tables.scored_cells(records)
    (only,) = tables.boards(cells, "accuracy")
    marks = tables.matrix(only.cells, "accuracy").marks
    assert marks.loc["a"].tolist() == ["", "one class", ""]
    assert marks.loc["c", "a"] == "seen (declared), one class"
    (note,) = (note for note in render.board_cautions(only) if "one class" in note)
    assert "over 95 % of the faces are called one expression" in note
    assert note.endswith(
        "cafe trained on a with seed 0 calls b happiness; cafe trained on c with seed 0 calls a happiness"
    )
    render.write(tmp_path, [only], "accuracy", [], [])
    assert "| a | **90.0** | 14.3, one class | 50.0 |" in (tmp_path / "leaderboard.md").read_text()
    (plain,) = tables.boards(tables.scored_cells([entry("a", {"a": 90, "b": 100})]), "accuracy")
    assert (plain.cells.collapsed == "").all()  # its faces are all surprised, and it says so


def test_targets_that_were_seen_are_left_out_of_the_unseen_mean() -> None:
    records = [entry("a", {"a": 90, "b": 60, "c": 50}, seen="b")]
    (row,) = board(records).table.itertuples()
    assert row.unseen == 50
    assert row.all == pytest.approx(200 / 3)


def test_a_spread_needs_two_seeds() -> None:
    records = MATRIX + [
        replace(
            item,
            spec=replace(item.spec, seed=1),
            cells=tuple(
                replace(cell, confusion=confusion(sum(cell.confusion[0][:1]) - 6, 106 - cell.confusion[0][0]))
                for cell in item.cells
            ),
        )
        for item in MATRIX
    ]
    (row,) = board(records).table.itertuples()
    assert row.unseen == pytest.approx(310 / 6 - 3)
    assert row.unseen_sd == pytest.approx(np.std([0, 6], ddof=1))


def test_an_incomplete_matrix_has_no_mean() -> None:
    other = {"method": "other"}
    records = [*MATRIX, entry("a", {"a": 99, "b": 99, "c": 99}, **other)]
    table = board(records).table.set_index("method")
    assert np.isnan(table.loc["other", "unseen"])
    assert table.loc["other", "cells"] == 3
    assert table.index.tolist() == ["cafe", "other"]
    assert tables.number(table.loc["other", "unseen"]) == "—"
    said = [board(records).seeds(row) for row in board(records).table.itertuples()]
    assert said == ["1", "1 (3/9 cells)"]


@pytest.mark.parametrize(
    "change",
    [
        {"suite": "t"},
        {"selection": "source-val"},
        {"profile": "cafe"},
        {"fraction": 0.5},
        {"synthetic": True},
        {"adaptation_target": "b"},
    ],
)
def test_different_conditions_are_different_leaderboards(change: dict[str, Any]) -> None:
    records = MATRIX + [replace(item, spec=replace(item.spec, **change)) for item in MATRIX]
    assert len(list(tables.boards(cells_frame(records), "accuracy"))) == 2


def test_gaps_by_row_and_by_column() -> None:
    found = tables.matrix(board(MATRIX).cells, "accuracy")
    assert found.source_gaps.tolist() == pytest.approx([90 - 55, 80 - 55, 60 - 45])
    assert found.target_gaps.tolist() == pytest.approx([90 - 60, 80 - 50, 60 - 45])


def test_numbers_as_they_are_printed() -> None:
    assert [tables.number(61.44), tables.number(61.44, 0.25), tables.number(float("nan"))] == [
        "61.4",
        "61.4 ± 0.3",
        "—",
    ]
    halves = [58.75, 58.75 - 1e-9, 58.25, -4.85 + 1e-9, 0.04, -0.04]
    assert [tenth(value) for value in halves] == ["58.8", "58.8", "58.3", "-4.9", "0.0", "0.0"]
    assert [tenth(value, signed=True) for value in halves[3:]] == ["-4.9", "0.0", "0.0"]
    assert tenth(4.85, signed=True) == "+4.9"
    assert tables.letters(28)[-3:] == ["z", "aa", "ab"]


def shown(records: list[RunRecord], width: int = 80, tabulated: list[published.Published] | None = None) -> str:
    console = Console(file=StringIO(), width=width)
    render.show(console, ranked(records), "accuracy", tabulated or [])
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def test_the_terminal_shows_what_a_reader_must_know() -> None:
    records = [replace(item, spec=replace(item.spec, synthetic=True)) for item in MATRIX]
    text = shown(records)
    assert max(map(len, text.splitlines())) <= 80
    for needed in (
        "synthetic faces",
        "selection last",
        "Pre-training of all: synth d1d1d1",
        "One seed",
        "Faces scored: a 100",
        "51.7",
        "gap",
    ):
        assert needed in text, needed


def test_a_wide_terminal_has_a_line_for_each_row_and_a_narrow_one_has_several() -> None:
    again = [replace(item, spec=replace(item.spec, seed=1)) for item in MATRIX]
    lines = shown([*MATRIX, *again], width=120).splitlines()
    assert [line for line in lines if "cafe" in line and "76.7 ± 0.0" in line]
    assert [line for line in lines if "│ a " in line and "90.0 ± 0.0" in line]
    narrow = shown([*MATRIX, *again], width=60).splitlines()
    assert not [line for line in narrow if "±" in line and "cafe" in line]
    assert [line for line in narrow if line.startswith("│        ") and "±0.0" in line]


def test_a_terminal_shows_one_table_of_the_shares_of_the_data() -> None:
    half = [replace(item, spec=replace(item.spec, fraction=0.5)) for item in MATRIX]
    text = shown([*MATRIX, *half, *(replace(i, spec=replace(i.spec, method="other")) for i in half)])
    assert text.count("Leaderboard") == 1
    assert text.count("trained on row") == 1
    assert re.search(r"method +┃ 100% ┃ +50%", text)
    assert re.search(r"cafe +│ 51.7 │ 51.7", text)
    assert re.search(r"other +│ +— │ 51.7", text)


def test_a_terminal_shows_what_shifts_do() -> None:
    blur, light = (
        ShiftedCell("a", "f", "source", factor, level, 100, VERSION, confusion(right, 100 - right))
        for factor, level, right in (("blur", 2.0, 70), ("darkness", 2.0, 80))
    )
    clean = replace(blur, factor=CLEAN, level=0.0, confusion=confusion(90, 10))
    shifted = shifted_frame([replace(MATRIX[0], shifted=(clean, blur, light))])
    console = Console(file=StringIO(), width=80)
    render.show(console, ranked(MATRIX), "accuracy", [], shifted)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    assert re.search(r"factor +┃ method ┃ targets ┃ clean ┃ +2 ┃", text)
    assert re.search(r"blur +│ cafe +│ source +│ +90.0 │ 70.0 │", text)
    assert re.search(r"darkness +│ cafe +│ source +│ +90.0 │ 80.0 │", text)


def test_different_pre_training_is_said() -> None:
    other = [replace(item, networks={"backbone": {"name": "clip", "digest": "e" * 16}}) for item in MATRIX]
    assert "Pre-training differs between rows" in shown(MATRIX + other)


def test_the_packaged_encoder_on_photographs_is_said() -> None:
    said = "Pre-training on rendered faces alone (synth)"
    assert any(said in note for note in render.board_cautions(board(MATRIX)))
    rendered = [replace(item, spec=replace(item.spec, synthetic=True)) for item in MATRIX]
    scratch = {"backbone": {"name": "synth-trunk/scratch", "digest": "scratch"}}
    for records in (rendered, [replace(item, networks=scratch) for item in MATRIX]):
        assert not any("rendered faces" in note for note in render.board_cautions(board(records)))


def test_two_texts_under_one_version_are_said() -> None:
    changed = replace(MATRIX[0], spec=replace(MATRIX[0].spec, seed=1), method_digest="x")
    assert "made by 2 different texts of the method file" in shown([*MATRIX, changed], width=200).replace("\n", " ")


def test_the_published_table_is_read_and_stands_apart() -> None:
    (table,) = published.read_published(shipped("results") / "published")
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
    assert text.index("Leaderboard") < text.index("Published")
    assert "CAFE" not in text[: text.index("Published")]


def test_printed_means_that_are_none_stand_beside_the_right_ones() -> None:
    (table,) = published.read_published(shipped("results") / "published")
    assert render.misprints(table)[1:] == [
        ["EAC", "affectnet", "53.09", "53.29", "-0.20"],
        ["CAFE", "affectnet", "60.27", "61.67", "-1.40"],
    ]
    right = pd.DataFrame({"method": ["CAFE"], "source": ["rafdb"], "accuracy": [63.48]})
    assert render.misprints(replace(table, printed=right)) == []
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


def test_published_cells_stand_beside_measured_ones_where_both_exist(tmp_path: Path) -> None:
    (table,) = published.read_published(shipped("results") / "published")
    records = [entry("rafdb", {"rafdb": 90, "ferplus": 70, "own": 50})]
    ((name, printed, difference),) = published.beside(table, board(records))
    assert (name, printed.shape) == ("CAFE", (5, 5))
    assert difference.loc["rafdb", "rafdb"] == pytest.approx(90 - 88.72)
    assert difference.notna().sum().sum() == 2
    text = shown(records, width=200, tabulated=[table])
    assert "measured here minus published (s (real faces): one source, selection last, profile official)" in text
    assert "+1.3" in text
    render.write(tmp_path, ranked(records), "accuracy", [table], [])
    assert "| rafdb | 88.7 +1.3 | 73.2 -3.2 | 45.9 |" in (tmp_path / "leaderboard.md").read_text()


def test_published_tables_stand_where_a_domain_of_theirs_was_measured(tmp_path: Path) -> None:
    (table,) = published.read_published(shipped("results") / "published")
    rendered = [replace(item, spec=replace(item.spec, synthetic=True)) for item in REAL]
    for name, records, there in (("near", REAL, True), ("own", MATRIX, False), ("rendered", rendered, False)):
        assert ("SCN" in shown(records, tabulated=[table])) is there
        render.write(tmp_path / name, ranked(records), "accuracy", [table], [])
        assert ("Published" in (tmp_path / name / "leaderboard.md").read_text()) is there


def test_files_of_a_report(tmp_path: Path) -> None:
    variant = [
        entry(
            item.spec.sources[0],
            {cell.target: cell.confusion[0][0] - 5 for cell in item.cells},
            parameters={"gate": "linear"},
        )
        for item in MATRIX
    ]
    ablation = Ablation("ab", "s", "what it buys", "cafe", {"full": "{}", "linear": '{"gate": "linear"}'})
    files = render.write(tmp_path, ranked(MATRIX + variant), "accuracy", [], [ablation])
    assert {path.name for path in files} == {
        "leaderboard.md", "leaderboard.csv", "leaderboard.tex", "data.csv",
        "s-cafe.png", "s-cafe-gate_linear.png", "s-unseen.png", "s-ab.png"
    }  # fmt: skip
    assert all(path.stat().st_size > 0 for path in files)
    text = (tmp_path / "leaderboard.md").read_text()
    assert "| cafe | 76.7 | 60.0 | 51.7 | 45.0 | 1 | 9/9 | 6 | a |" in text
    assert "| a | **90.0** | 60.0 | 50.0 | 55.0 | 35.0 |" in text
    frame = pd.read_csv(tmp_path / "leaderboard.csv")
    assert frame.unseen.tolist() == pytest.approx([51.6667, 46.6667], abs=1e-3)
    assert frame.suite.unique().tolist() == ["s"]
    assert render.GAP.replace("gap:", "Gap:") in text
    latex = (tmp_path / "leaderboard.tex").read_text()
    assert r"\begin{tabular}{lrrrrr}" in latex
    assert r"cafe & 76.7 & 60.0 & \textbf{51.7} & 45.0 & 1 \\" in latex
    assert "% One seed: no spread can be told" in latex  # a caption has room for little
    assert "One seed" not in latex.partition(r"\caption{")[2].partition("\n")[0]
    assert "cafe (gate=linear)" in latex


def test_shares_of_the_data_have_names_of_their_own() -> None:
    first, second = (board([entry("a", {"a": 90, "b": 60}, fraction=share)]) for share in (0.12, 0.125))
    assert first.title.endswith(", 12% of the data")
    assert second.title.endswith(", 12.5% of the data")
    assert first.slug != second.slug


def test_all_of_the_data_stands_before_parts_of_it() -> None:
    records = [entry("a", {"a": 90, "b": 60}, fraction=share) for share in (0.5, 0.1, 1.0, 0.25)]
    assert [found.fraction for found in ranked(records)] == [1.0, 0.5, 0.25, 0.1]


def on(device: str, records: list[RunRecord], fit: float) -> list[RunRecord]:
    return [replace(item, environment={"device": device, "cuda": "12"}, seconds={"fit": fit}) for item in records]


def test_seconds_of_different_devices_are_not_averaged_nor_drawn_together() -> None:
    again = [replace(item, spec=replace(item.spec, seed=1)) for item in MATRIX]
    mixed = board([*on("fast", MATRIX, 1.0), *on("slow", again, 9.0)])
    (row,) = mixed.table.itertuples()
    assert np.isnan(row.fit_seconds)
    assert row.device == "fast; slow"
    assert any("whose seconds are not to be compared: fast; slow" in note for note in render.board_cautions(mixed))
    one = board(on("fast", [*MATRIX, *again], 1.0))
    assert one.table.fit_seconds[0] == 1.0
    assert not any("devices" in note for note in render.board_cautions(one))
    panels = plots.cost(mixed, details.histories({})).axes
    assert [axes.get_title(loc="left") for axes in panels] == ["fast", "slow"]
    assert [axes.lines[0].get_xdata().tolist() for axes in panels] == [[1.0], [9.0]]


def test_a_curve_over_shares_of_the_data_is_over_the_same_cells() -> None:
    tenth = [replace(item, spec=replace(item.spec, fraction=0.1)) for item in MATRIX]
    other = [replace(item, spec=replace(item.spec, method="other")) for item in tenth[:1]]
    parts = ranked([*MATRIX, *tenth[:2], *other])
    assert not len(plots.scaled(parts))  # one share lacks a source, and a method has one share
    parts = ranked([*MATRIX, *tenth, *other])
    assert set(plots.scaled(parts).method) == {"cafe"}
    figure = plots.data_scale(parts, "accuracy")
    assert [text.get_text() for text in figure.legends[0].texts] == ["cafe", "chance"]
    assert figure.axes[0].lines[0].get_xdata().tolist() == [10, 100]


def test_a_method_has_one_colour_in_all_figures() -> None:
    tenth = [replace(item, spec=replace(item.spec, fraction=0.1)) for item in MATRIX]
    other = [replace(item, spec=replace(item.spec, method="better", fraction=0.1)) for item in MATRIX[1:2]]
    better = [entry(item.spec.sources[0], {"a": 95, "b": 95, "c": 95}, method="better") for item in MATRIX]
    both = ranked([*MATRIX, *tenth, *other, *better])
    palette = plots.colours(both)
    assert [name for name, _ in palette] == ["better", "cafe"]
    bars = plots.unseen_bars(both[1], "accuracy", palette).axes[0].patches
    points = plots.cost(both[1], details.histories({}), palette).axes[0].lines
    lines = plots.data_scale(both, "accuracy", palette).axes[0].lines
    cafe = palette["cafe", "synth d1d1d1"]
    assert bars[0].get_facecolor()[:3] == cafe
    assert [points[0].get_color(), lines[0].get_color()] == [cafe, cafe]


def test_numbers_of_a_heat_map_stay_dark_where_text_turns_light(tmp_path: Path) -> None:
    svg = '<svg width="9pt" height="9pt"><text style="fill: %s">1</text></svg>'
    for colour, there in (("#000000", False), ("#595959", False), ("#262626", True), ("#808080", True)):
        (tmp_path / "x.svg").write_text(svg % colour)
        assert (colour in page._inline(tmp_path / "x.svg", "x")) is there


def test_long_names_are_broken_where_they_can_be() -> None:
    probe = "linear_probe (backbone=open_clip:ViT-B-32-quickgelu/openai)"
    names = {
        probe: "linear_probe (backbone=open_clip:ViT-B-\n32-quickgelu/openai)",
        "cafe (gate=linear, groups=even, separation=0)": "cafe (gate=linear, groups=even,\nseparation=0)",
        "cafe": "cafe",
        "x" * 90: "\n".join(["x" * 40, "x" * 40, "x" * 10]),
    }
    recalls = pd.DataFrame(50.0, list(names), list(EXPRESSIONS))
    figure = plots.recall_heatmap(board(MATRIX), recalls)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list(names.values())


def test_names_in_a_diagram_of_ranks_do_not_touch() -> None:
    long = {place: f"method{place} (learning_rate=0.00{place}, backbone=synth-trunk/scratch)" for place in range(9)}
    scores = pd.Series({name: float(place + 1) for place, name in long.items()})
    p = pd.DataFrame(0.01, scores.index, scores.index)
    figure = plots.critical_difference(board(MATRIX), evidence.Ranking(scores, 20, 0.001, 1.0, p))
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for axes in figure.axes for text in axes.texts]
    assert len(boxes) == 9
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    assert min(box.x0 for box in boxes) >= 0
    assert max(box.x1 for box in boxes) <= figure.bbox.x1


def test_a_bar_of_tied_methods_is_drawn_from_left_to_right() -> None:
    scores = pd.Series({f"method{place}": float(place + 1) for place in range(9)})
    tied = pd.DataFrame(1.0, scores.index, scores.index)
    figure = plots.critical_difference(board(MATRIX), evidence.Ranking(scores, 20, 0.9, 1.0, tied))
    (bar,) = (line for axes in figure.axes for line in axes.lines if line.get_linewidth() == 3)
    assert bar.get_xdata().tolist() == scores.tolist()


UNESCAPED = r"(?<!\\)(?:\\\\)*"
"""Before a letter: an even number of backslashes."""


def test_latex_is_well_formed_whatever_the_names(tmp_path: Path) -> None:
    odd = r"a&b_c%d#e{f}g\h~i^j$k<l>m|n" + "\n\n" + "…" * 30
    records = [
        *MATRIX,
        *(replace(item, spec=replace(item.spec, method="other", note=odd)) for item in MATRIX),
        *(replace(item, spec=replace(item.spec, method="third", parameters={"gate": odd})) for item in MATRIX[:1]),
    ]
    render.write(tmp_path, ranked(records), "accuracy", [], [])
    text = (tmp_path / "leaderboard.tex").read_text(encoding="utf-8")
    assert re.findall(r"\\begin{(.*?)}", text) == re.findall(r"\\end{(.*?)}", text)[::-1] == ["table*", "tabular"]
    assert len(re.findall(UNESCAPED + "{", text)) == len(re.findall(UNESCAPED + "}", text))
    layout, body = re.split(r"\\begin{tabular}(.*)\n", text)[1:]
    columns = re.sub(r">{.*?arraybackslash}p{.*?}", "l", layout).strip("{}")
    rows = [line for line in body.partition(r"\bottomrule")[0].splitlines() if line.endswith(r"\\")]
    assert columns == "lrrrrr"
    assert [len(re.findall(UNESCAPED + "&", row)) for row in rows] == [len(columns) - 1] * 4
    caption = next(line for line in text.splitlines() if line.startswith(r"\caption"))
    for place in (caption, *rows):  # what is not escaped there is ours: marks of footnotes, and between the columns
        left = re.sub(r"\$(\^{[a-z]}|\\pm)\$", "", place.removesuffix(r"\\"))
        assert not re.search(UNESCAPED + "[%#~^_$]", left), left
        assert not re.search('[<>|"]', left), left
    assert r"a\&b\_c\%d\#e\{f\}g\textbackslash{}h\textasciitilde{}i\textasciicircum{}j\$k\textless{}l" in rows[-1]
    assert rows[-1].endswith(r"& 1 (3/9 cells) \\")


def test_the_same_records_give_the_same_files(tmp_path: Path) -> None:
    first, second = (render.write(tmp_path / name, ranked(MATRIX), "accuracy", [], []) for name in ("one", "two"))
    for left, right in zip(first, second, strict=True):
        assert left.read_bytes() == right.read_bytes(), left.name
        if left.suffix == ".png":
            assert left.with_suffix(".pdf").read_bytes() == right.with_suffix(".pdf").read_bytes(), left.name


def test_a_report_takes_the_place_of_the_one_before_and_of_nothing_else(tmp_path: Path) -> None:
    def write(*names: str) -> None:
        with render.replaced(tmp_path / "report") as draft:
            for name in names:
                (draft / name).write_text(" ".join(names))

    outside = tmp_path / "mine.txt"
    outside.write_text("mine")
    write("index.html", "s-old.png")
    (tmp_path / "report" / "s-own.png").write_text("mine")
    (tmp_path / "report" / render.WRITTEN).open("a").write("\n../mine.txt\n")
    write("index.html", "t-new.png")
    found = {path.name: path.read_text() for path in (tmp_path / "report").iterdir() if path.name != render.WRITTEN}
    assert found == {"index.html": "index.html t-new.png", "t-new.png": "index.html t-new.png", "s-own.png": "mine"}
    assert outside.is_file()
    with pytest.raises(ValueError, match="drawing"), render.replaced(tmp_path / "report"):
        raise ValueError("drawing")
    assert {path.name for path in (tmp_path / "report").iterdir()} == {*found, render.WRITTEN}


def test_no_records_no_boards() -> None:
    assert list(tables.boards(cells_frame([]), "accuracy")) == []


def adapted(source: str, target: str, own: int, right: int, seed: int = 0) -> RunRecord:
    record = entry(source, {source: own, target: right}, seed=seed, method="coral", adaptation_target=target)
    return replace(record, spec=replace(record.spec, fingerprints={source: "f", target: "f"}))


ADAPTED = [adapted("a", "b", 90, 60), adapted("a", "c", 80, 50), adapted("b", "a", 70, 40), adapted("b", "c", 74, 46)]


def test_runs_with_unlabelled_target_images_have_a_section_of_their_own() -> None:
    first, last = tables.boards(cells_frame([*ADAPTED, *MATRIX]), "accuracy")
    assert (first.adaptation, last.adaptation) == (False, True)
    assert "one source with unlabelled target images, selection last" in last.title
    assert "unlabelled" not in first.title
    assert (first.slug, last.slug) == ("s", "s-adaptation")
    assert list(last.table.method) == ["coral"]
    (row,) = last.table.itertuples()
    assert row.in_domain == pytest.approx((90 + 80 + 70 + 74) / 4)
    assert row.unseen == pytest.approx((60 + 50 + 40 + 46) / 4)
    assert row.all == pytest.approx((85 + 72 + 60 + 50 + 40 + 46) / 6)  # the source once, whatever it was adapted to
    assert (row.seeds, row.cells, row.asked) == (1, 8, 8)


def test_a_matrix_of_adapted_runs_shows_the_mean_on_the_source_and_a_spread_over_seeds_alone() -> None:
    found = tables.matrix(cells_frame(ADAPTED), "accuracy")
    assert found.mean.loc["a", "a"] == 85
    assert found.spread.isna().all().all()
    again = [adapted("a", "b", 94, 64, seed=1), adapted("a", "c", 80, 50, seed=1)]
    found = tables.matrix(cells_frame([*ADAPTED[:2], *again]), "accuracy")
    assert found.spread.loc["a", "a"] == pytest.approx(np.std([85, 87], ddof=1))
    both = tables.comparable({"one": cells_frame(ADAPTED[:2]), "two": cells_frame([*ADAPTED[:2], *again])})
    assert [len(cells) for cells in both.values()] == [4, 8]


def test_the_report_says_what_adapted_runs_saw(tmp_path: Path) -> None:
    text = shown(ADAPTED, width=200)
    assert "with unlabelled target images" in text
    assert "Each run also learned from the training images of its target, without their labels" in text
    render.write(tmp_path, ranked([*MATRIX, *ADAPTED]), "accuracy", [], [])
    assert pd.read_csv(tmp_path / "leaderboard.csv").adaptation.tolist() == [False, True]
    assert (tmp_path / "s-adaptation-coral.png").is_file()


def validated(source: str, seed: int, share: float, gate: str = "sigmoid", **changes: Any) -> RunRecord:
    """A record that scored no target, and validated with `share` after a better first epoch."""
    changes = {"selection": "source-val", "fraction": 0.5, "parameters": {"gate": gate}, **changes}
    spec = replace(PLAIN, sources=(source,), fingerprints={source: "f"}, seed=seed, targets={}, relations={}, **changes)
    return finished(spec, history=({"val_accuracy": share + 0.1}, {"val_accuracy": share}))


LINEAR, SIGMOID = "cafe (gate=linear)", "cafe (gate=sigmoid)"


def test_settings_are_compared_on_the_sources_and_seeds_that_all_have() -> None:
    leaderboard = [validated(source, seed, 0.9) for source in ("a", "b") for seed in (0, 1)]
    sigmoid = [validated("a", 100, 0.5), validated("b", 100, 0.6)]
    linear = [validated("a", 100, 0.6, "linear"), validated("b", 100, 0.7, "linear")]
    (found,) = choosing.validation([*leaderboard, *sigmoid, *linear])
    assert [label for _, label in found.table.index] == [LINEAR, SIGMOID]
    assert found.table["last"].tolist() == pytest.approx([65, 55])
    assert found.table["best"].tolist() == pytest.approx([75, 65])
    assert found.table["a"].tolist() == pytest.approx([60, 50])
    assert found.table.runs.tolist() == [2, 2]
    assert found.notes == ["cafe: 4 runs are left out, as not every row was trained on a, b with seed 0, 1"]


def test_no_setting_is_called_best_that_is_within_the_noise_of_the_next() -> None:
    rates = {0.001: 0.5, 0.002: 0.7, 0.004: 0.72}
    records = [
        validated("a", 0, share, parameters={"rate": rate, "epochs": 1}, defaults={"rate": 0.002, "epochs": 9})
        for rate, share in rates.items()
    ]

    def answer(faces: int | None, *, several: int = 3) -> str:
        (found,) = choosing.validation(records[-several:], lambda spec: faces)
        (said,) = found.answers
        return said

    (found,) = choosing.validation(records, lambda spec: 1000)
    assert [label for _, label in found.table.index][1] == "cafe (rate=0.002, epochs=1)"  # the default rate is said too
    assert found.table.faces.tolist() == [1000, 1000, 1000]
    assert found.table.error.tolist() == pytest.approx(
        [100 * np.sqrt(share * (1 - share) / 1000) for share in (0.72, 0.7, 0.5)], rel=0.01
    )
    said = answer(1000)
    assert "highest: rate=0.004, not to be told from 0.002 (differences of up to 4.0 points may be chance" in said
    assert said.endswith("no reason to leave the default, rate=0.002")
    assert answer(100_000) == "cafe, best: rate=0.004; use it with: --set rate=0.004 --set epochs=1"
    few = answer(15)
    assert "not to be told from 0.002 or 0.001" in few
    assert "Only 15 held-out faces, of which one is 6.7 points" in few
    assert "how many faces were held out is not known here" in answer(None)
    assert "best" not in answer(None, several=2)


def test_shares_of_the_data_and_profiles_are_not_averaged_in_source_validation() -> None:
    full = [validated("a", 100, 0.9, fraction=1.0), validated("a", 100, 0.8, "linear", fraction=1.0)]
    half = [validated("a", 100, 0.5), validated("a", 100, 0.6, "linear")]
    other = [validated("a", 100, 0.3, profile="cafe")]
    found = list(choosing.validation([*half, *full, *other]))
    title = "accuracy on held-out faces of the source (%), last epoch"
    assert [part.title for part in found] == [
        title, f"{title}, 50% of the data", f"{title}, profile cafe, 50% of the data"
    ]  # fmt: skip
    assert [part.table["last"].tolist() for part in found] == [pytest.approx(v) for v in ([90, 80], [60, 50], [30])]
    assert [part.notes for part in found] == [[], [], []]


def test_a_setting_with_other_seeds_is_left_out_by_name_and_the_rest_compared() -> None:
    compared = [validated("a", 100, 0.5), validated("a", 100, 0.6, "linear")]
    (found,) = choosing.validation([*compared, validated("a", 0, 0.9, "other")])
    assert [label for _, label in found.table.index] == [LINEAR, SIGMOID]
    assert found.notes == [
        "cafe (gate=other) is left out: it was not trained on a with seed 100, as the rows above were"
    ]


def test_settings_without_a_common_training_have_no_best() -> None:
    (found,) = choosing.validation([validated("a", 0, 0.5), validated("a", 100, 0.9, "linear")])
    assert found.table.empty
    assert found.notes == [
        "cafe: its 2 settings were not trained on the same sources and seeds, so none is compared; run all of them "
        "with the same --sources and --seeds"
    ]


def test_methods_with_other_seeds_stand_apart_in_source_validation() -> None:
    own = [validated("a", 0, 0.5), validated("a", 0, 0.4, "linear")]
    (found,) = choosing.validation([*own, validated("a", 0, 0.9, method="other")])
    assert [label for _, label in found.table.index] == [SIGMOID, LINEAR, "other"]
    assert found.notes == []
    (found,) = choosing.validation([*own, validated("a", 1, 0.9, method="other")])
    assert len(found.table) == 3
    assert found.notes == ["Methods differ in sources and seeds: only rows of one method may be compared"]

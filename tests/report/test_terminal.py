"""Leaderboards on a terminal."""

from __future__ import annotations

import re
from dataclasses import replace
from io import StringIO
from pathlib import Path

from rich.console import Console
from sample_predictions import gathered, matrix
from sample_records import MATRIX, confusion, entry, ranked, shown, views

from fergen_bench.data.corruption import CLEAN, VERSION
from fergen_bench.records.frame import shifted_frame
from fergen_bench.records.record import ShiftedCell
from fergen_bench.report import folder, tables, terminal, verdicts


def test_the_terminal_shows_what_a_reader_must_know() -> None:
    records = [replace(item, spec=replace(item.spec, synthetic=True)) for item in MATRIX]
    text = shown(records)
    assert max(map(len, text.splitlines())) <= 80
    for needed in (
        "synthetic faces",
        "last checkpoint",
        "Pre-training of all: synth d1d1d1",
        "One training",
        "Faces scored: a 100",
        "51.7",
    ):
        assert needed in text, needed


def test_a_mark_below_a_name_costs_no_column() -> None:
    again = [replace(item, spec=replace(item.spec, seed=1)) for item in MATRIX]
    fallen = entry("c", {"a": 30, "b": 20, "c": 30}, seed=1)
    text = shown([*MATRIX, *again[:2], fallen])
    (head,) = (line for line in text.splitlines() if line.startswith("method "))
    assert head.split()[-1] == "seeds"
    assert "collapsed\ntraining" in "\n".join(line[:9].strip() for line in text.splitlines())
    assert "…" not in text


def test_a_wide_terminal_has_a_line_for_each_row_and_a_narrow_one_has_several() -> None:
    again = [replace(item, spec=replace(item.spec, seed=1)) for item in MATRIX]
    lines = shown([*MATRIX, *again], width=120, matrices=True).splitlines()
    assert [line for line in lines if "cafe" in line and "76.7 ± 0.0" in line]
    assert [line for line in lines if "│ a " in line and "90.0 ± 0.0" in line]
    narrow = shown([*MATRIX, *again], width=60, matrices=True).splitlines()
    assert not [line for line in narrow if line.startswith("cafe") and "76.7 ± 0.0" in line]
    assert [line for line in narrow if line.startswith("│     │") and "±0.0" in line]
    assert max(map(len, narrow)) <= 60
    assert "…" not in "".join(narrow)


def test_the_answer_stands_last_and_matrices_are_printed_on_request() -> None:
    again = [replace(item, spec=replace(item.spec, seed=1)) for item in MATRIX]
    text = shown([*MATRIX, *again])
    assert "trained on row" not in text
    places = [text.index(part) for part in ("Faces scored", "Leaderboard, accuracy", "On unseen domains cafe")]
    assert places == sorted(places)
    asked = shown([*MATRIX, *again], matrices=True)
    assert asked.index("trained on row") < asked.index("Leaderboard, accuracy")
    assert "gap" in asked


def test_no_word_is_broken_in_80_columns() -> None:
    name = "full_finetune (learning_rate=0.004, backbone=synth-trunk/scratch)"
    records = [replace(item, spec=replace(item.spec, method=name, seed=seed)) for item in MATRIX for seed in (0, 1)]
    lines = shown(records).splitlines()
    assert max(map(len, lines)) <= 80
    start = next(index for index, line in enumerate(lines) if line.startswith("full_"))
    room = next(line.index("standing") for line in lines if "standing" in line)
    words = [line[:room].strip() for line in lines[start : start + 5]]
    assert "".join(words).replace(" ", "") == name.replace(" ", "")
    assert all(word[-1] in "_=,-/)" or name.startswith(f"{word} ") for word in words)


def test_a_terminal_shows_one_table_of_the_shares_of_the_data() -> None:
    half = [replace(item, spec=replace(item.spec, fraction=0.5)) for item in MATRIX]
    tenth = [replace(item, spec=replace(item.spec, fraction=0.1, method="small")) for item in MATRIX]
    text = shown([*MATRIX, *tenth, *half, *(replace(i, spec=replace(i.spec, method="other")) for i in half)])
    assert text.count("Leaderboard") == 1
    words = " ".join(text[text.index("Leaderboard") :].split())
    assert "50% of the data" in words  # the share with the most rows
    assert re.search(r"method +┃ 100% ┃ +50% ┃ +10%", text)
    assert re.search(r"cafe +│ 51.7 │ 51.7 │ +—", text)
    assert re.search(r"small +│ +— │ +— │ 51.7", text)
    assert not re.search(r"other +│", text)


def test_a_terminal_shows_what_shifts_do() -> None:
    blur, light = (
        ShiftedCell("a", "f", "source", factor, level, 100, VERSION, confusion(right, 100 - right))
        for factor, level, right in (("blur", 2.0, 70), ("darkness", 2.0, 80))
    )
    clean = replace(blur, factor=CLEAN, level=0.0, confusion=confusion(90, 10))
    long = MATRIX[0].spec.method + " (learning_rate=0.004, backbone=synth-trunk, features=cached, separation=0.0)"
    named = [replace(MATRIX[0], spec=replace(MATRIX[0].spec, method=name)) for name in (MATRIX[0].spec.method, long)]

    def lines(*scores: ShiftedCell) -> list[str]:
        shifted = shifted_frame([replace(record, shifted=scores) for record in named])
        console = Console(file=StringIO(), width=80)
        terminal.show(console, views(ranked(MATRIX)), [], shifted)
        return console.file.getvalue().splitlines()  # type: ignore[attr-defined]

    text = "\n".join(lines(clean, blur, light))
    assert re.search(r"factor +method +clean +2", text)
    assert re.search(r"blur +cafe +90.0 70.0", text)
    assert re.search(r"darkness +cafe +90.0 80.0", text)
    assert "\nTargets: source\n" in text
    assert re.search(r" +cafe \(learning_rate=0.004, .* 90.0 80.0 *\n +features=cached, separation=0.0\) *\n", text)
    both = lines(clean, blur, replace(clean, relation="unseen"), replace(blur, relation="unseen"))
    assert re.search(r"factor +method +targets +clean +2", "\n".join(both))
    assert max(map(len, both)) <= 80


def test_a_factor_without_a_complete_seed_is_named_in_place_of_a_table(tmp_path: Path) -> None:
    scores = [
        ShiftedCell("c", "f", "unseen", factor, level, 100, VERSION, confusion(70, 30))
        for factor, level in ((CLEAN, 0.0), ("blur", 2.0))
    ]
    one, other = (replace(MATRIX[place], shifted=(*scores,)) for place in (0, 1))
    other = replace(other, spec=replace(other.spec, method="other"))
    console = Console(file=StringIO(), width=80)
    shifted = shifted_frame([one, other])
    terminal.show(console, views(ranked(MATRIX)), [], shifted)
    text = " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]
    assert "Faces scored: c 100. Not shown, since no seed has every cell: blur" in text
    assert not [file for file in folder.write(tmp_path, views(ranked(MATRIX)), shifted=shifted) if "blur" in file.name]
    assert "since no seed has every cell: blur" in (tmp_path / "leaderboard.md").read_text()


def test_a_row_that_lacks_cells_has_room_in_80_columns(tmp_path: Path) -> None:
    records = [*matrix(tmp_path, "quite_a_long_name", 0.7), *matrix(tmp_path, "partial", 0.6)[:5]]
    found, cells = gathered(records, tmp_path)
    (board,) = verdicts.judged(tables.boards(cells, "accuracy"), found, "accuracy")
    console = Console(width=80, record=True, file=StringIO())
    terminal.show(console, views([board]), [])
    lines = console.export_text().splitlines()
    assert any("cells)" in line for line in lines)
    assert max(map(len, (line.rstrip() for line in lines))) <= 80

"""Sentences below a leaderboard: each stands where its cause is, and nowhere else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sample_predictions import gathered, matrix
from sample_records import MATRIX, board, collapsing, confusion, entry, ranked, shown, views

from fergen_bench.records.record import RunRecord
from fergen_bench.report import folder, notes, tables, verdicts
from fergen_bench.report.leaderboard import LeaderboardView


def test_runs_that_left_near_duplicates_out_do_not_stand_beside_others_in_silence() -> None:
    plain = [entry("a", {"a": 90, "b": 60, "c": 50}, seed=seed) for seed in (0, 1)]
    fewer = replace(plain[1].cells[1], confusion=confusion(57, 40), excluded="0123456789ab")
    mixed = replace(plain[1], cells=(plain[1].cells[0], fewer, plain[1].cells[2]))
    said = "Not to be compared: near-duplicates are left out of b in some runs and scored in others"
    assert not any(said in note for note in LeaderboardView(board(plain), "accuracy").notes)
    assert any(said in note for note in LeaderboardView(board([plain[0], mixed]), "accuracy").notes)


def test_a_method_that_is_not_all_that_its_name_promises_says_so_below_the_table(
    tmp_path: Path, sketched: None
) -> None:
    noted = [entry("a", {"a": 90, "b": 60}, note="the classifier alone")]
    assert "cafe: the classifier alone" in LeaderboardView(board(noted), "accuracy").notes
    folder.write(tmp_path, views(ranked(noted)))
    assert "cafe: the classifier alone" in (tmp_path / "leaderboard.md").read_text()


def test_a_classifier_that_says_one_thing_alone_is_marked_and_said_to_be(tmp_path: Path, sketched: None) -> None:
    seen = entry("c", {"a": 50, "b": 40, "c": 60}, seen="a")
    marked = replace(seen, cells=(replace(seen.cells[0], mark="seen (declared)"), *seen.cells[1:]))
    records = [collapsing(MATRIX[0], "b"), MATRIX[1], collapsing(marked, "a")]
    cells = tables.scored_cells(records)
    (only,) = tables.boards(cells, "accuracy")
    marks = tables.matrix(only.cells, "accuracy").marks
    assert marks.loc["a"].tolist() == ["", "one class", ""]
    assert marks.loc["c", "a"] == "seen (declared), one class"
    (note,) = (note for note in notes.board_cautions(only) if "one class" in note)
    assert "over 95 % of the faces are called one expression" in note
    assert note.endswith(
        "cafe trained on a with seed 0 calls b happiness; cafe trained on c with seed 0 calls a happiness"
    )
    (note,) = (text for text in notes.board_cautions(replace(only, sources=0)) if "one class" in text)
    assert note.endswith("cafe calls b happiness; cafe calls a happiness")
    folder.write(tmp_path, views([only]))
    assert "| a | **90.0** | 14.3, one class | 50.0 |" in (tmp_path / "leaderboard.md").read_text()
    (plain,) = tables.boards(tables.scored_cells([entry("a", {"a": 90, "b": 100})]), "accuracy")
    assert (plain.cells.collapsed == "").all()  # all its faces are surprised, so one predicted class is right


def test_different_pre_training_is_said() -> None:
    other = [replace(item, networks={"backbone": {"name": "clip", "digest": "e" * 16}}) for item in MATRIX]
    assert "Pre-training differs between rows" in shown(MATRIX + other)


def test_rows_of_older_numerics_are_named() -> None:
    newer = [replace(item, spec=replace(item.spec, method="dan", numerics=3)) for item in MATRIX]
    between = [replace(item, spec=replace(item.spec, method="sd", numerics=2)) for item in MATRIX]
    assert not any("numerics" in note for cells in (MATRIX, newer) for note in notes.board_cautions(board(cells)))
    (note,) = (note for note in notes.board_cautions(board(MATRIX + newer + between)) if "numerics" in note)
    assert "The newest here is 3, and these are older: numerics 1: cafe; numerics 2: sd." in note


def test_rows_of_different_options_of_scoring_are_said() -> None:
    usual = entry("a", {"a": 90, "b": 60})
    for change in ({"views": ("plain", "mirror")}, {"prior": 0.5}):
        other = entry("a", {"a": 90, "b": 60}, **change)
        said = [
            note for note in notes.board_cautions(board([usual, other])) if "different options (views, prior)" in note
        ]
        assert len(said) == 1
        assert not any("options" in note for note in notes.board_cautions(board([other])))


def test_the_packaged_encoder_on_photographs_is_said() -> None:
    said = "Pre-training on rendered faces alone (synth)"
    assert any(said in note for note in notes.board_cautions(board(MATRIX)))
    rendered = [replace(item, spec=replace(item.spec, synthetic=True)) for item in MATRIX]
    scratch = {"backbone": {"name": "synth-trunk/scratch", "digest": "scratch"}}
    for records in (rendered, [replace(item, networks=scratch) for item in MATRIX]):
        assert not any("rendered faces" in note for note in notes.board_cautions(board(records)))


def test_two_texts_under_one_version_are_said() -> None:
    changed = replace(MATRIX[0], spec=replace(MATRIX[0].spec, seed=1), method_digest="x")
    assert "made by 2 different texts of the method file" in shown([*MATRIX, changed], width=200).replace("\n", " ")


def test_rows_without_predictions_are_named_and_not_taken_for_tied(tmp_path: Path) -> None:
    def cautions(*kept: bool) -> str:
        runs = tmp_path / str(kept)
        skills = {"good": 0.7, "fair": 0.69, "poor": 0.55}
        records = [
            record
            for (name, skill), has in zip(skills.items(), kept, strict=True)
            for record in matrix(runs, name, skill, kept=has)
        ]
        found, cells = gathered(records, runs)
        (board,) = verdicts.judged(tables.boards(cells, "accuracy"), found, "accuracy")
        lacking = [name for name, has in zip(skills, kept, strict=True) if not has]
        assert (board.table.set_index("method").standing[lacking] == "not compared").all()
        return " ".join(notes.board_cautions(board))

    assert "redictions" not in cautions(True, True, True)
    assert "records of fair: no intervals there, and they are not compared with the best" in cautions(True, False, True)
    assert "records of good: no intervals there, and they are not compared with the best" in cautions(False, True, True)
    assert "No intervals, and no row is compared with the best" in cautions(False, False, False)


def test_a_row_whose_pretraining_may_have_seen_the_targets_has_one_note() -> None:
    def marked(record: RunRecord, targets: str, saw: str, reason: str, network: str) -> RunRecord:
        cells = tuple(
            replace(cell, pretraining_saw=saw, pretraining_reason=reason) if cell.target in targets else cell
            for cell in record.cells
        )
        return replace(record, cells=cells, networks={"backbone": {"name": network, "digest": "d" * 16}})

    def own_only(record: RunRecord) -> RunRecord:
        return replace(record, cells=record.cells[:1])

    records = [
        *(marked(record, "abc", "unknown", "webimagetext: never published", "clip") for record in MATRIX),
        *(marked(record, "b", "yes", "trained on b", "faces") for record in MATRIX),
    ]
    only = board(records)
    letters = {kind.split()[0]: mark for kind, mark in only.marks.items()}
    said = notes.board_cautions(only)
    unknown = f"Nobody knows if pre-training has seen the targets: {letters['clip']} (webimagetext: never published)"
    seen = "Pre-training has seen targets, which are left out of these rows' unseen means"
    assert said.count(unknown) == 1
    assert not any("Nobody knows" in note for note in notes.board_cautions(board([own_only(records[0])])))
    assert said.count(f"{seen}: {letters['faces']} (b: trained on b)") == 1
    assert not any("re-training has seen" in note for note in notes.board_cautions(board(MATRIX)))
    assert notes.short_mark("seen (pre-training)") == "seen-"
    assert notes.mark_notes(["seen (pre-training)"]) == [
        "seen-: the pre-training of the row has seen this target; a note has the reason"
    ]

"""Evaluating finished models and files of predictions, from Python and on the command line."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_models import CONTEMPT, SIDE, write_model

import fergen_bench as fb
from conftest import Bench
from fergen_bench.api.evaluate_options import EvaluateOptions
from fergen_bench.api.options import table
from fergen_bench.data.domain import Domain
from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.experiment.project import Project
from fergen_bench.finished.convention import Convention
from fergen_bench.finished.model import open_model, outputs_of
from fergen_bench.finished.record import recorded_model
from fergen_bench.metric import confusion_matrix
from fergen_bench.records import store

PLAIN = Convention(size=(SIDE, SIDE))


def brightness(images: np.ndarray) -> np.ndarray:
    return np.stack([images.mean((1, 2, 3)) / (1 + place) for place in range(7)], 1)


def records(project: Project) -> list[Path]:
    return sorted((project.results / "runs").rglob("*.json"))


def test_scores_are_those_of_the_model(project: Project, small: Path, web: Domain) -> None:
    done = fb.evaluate(small, targets=["web", "film"], classes="rafdb", trained_on="web", track=False)
    split = web.split("test")
    predicted = outputs_of(open_model(small), PLAIN, split).argmax(1)
    assert done.record.cells[0].confusion == confusion_matrix(split.labels, predicted, 7).tolist()
    assert [(cell.target, cell.relation) for cell in done.record.cells] == [("web", "source"), ("film", "unseen")]
    spec = done.record.spec
    assert (spec.method, spec.sources, spec.parameters["model"]) == ("external:small", (), str(small))
    assert spec.weights["model"] == open_model(small).digest
    assert done.convention == PLAIN
    assert list(done.cells.target) == ["web", "film"]
    assert (done.cells.low < done.cells.accuracy).all()
    assert store.load(records(project)[0]).spec == spec


def test_a_bad_model_is_refused_before_a_target_is_prepared(
    project: Project, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Project, "prepared", lambda *arguments: pytest.fail("a target is prepared"))
    for faulty in ({}, {"classes": "affectnet"}, {"classes": "rafdb", "mean": [1, 2]}, {"classes": "rafdb", "size": 9}):
        with pytest.raises(fb.BenchError):
            fb.evaluate(small, **faulty, track=False)
    with pytest.raises(fb.BenchError, match=r"absent\.csv: cannot be read"):
        fb.evaluate(predictions="absent.csv", track=False)


def test_what_is_assumed_is_printed_before_the_scores(project: Project, small: Path, bench: Bench) -> None:
    done = bench("evaluate", str(small), "--classes", "rafdb", "--targets", "web", "--no-track")
    assert done.code == 0, done.err
    first, *others = done.err.splitlines()
    assert first.startswith("note: assumed, since nothing states it: rgb 3 x 32 x 32, bilinear, 0-1, no mean is subtr")
    assert others == ["scoring web: 100 images"]
    stated = bench("evaluate", str(small), "--classes", "rafdb", "--targets", "web", "--no-track", "--mean", "0")
    assert "assumed" not in stated.err


def test_the_record_opens_its_model_again(project: Project, small: Path, web: Domain) -> None:
    done = fb.evaluate(small, targets="web", classes=EXPRESSIONS, track=False)
    model, convention = recorded_model(done.record)
    assert convention == PLAIN
    assert np.array_equal(model(convention.prepare(web.faces[:5])), open_model(small)(PLAIN.prepare(web.faces[:5])))


def test_unknown_training_data_are_never_unseen(project: Project, small: Path) -> None:
    done = fb.evaluate(small, targets=["web", "film"], classes="rafdb", track=False)
    assert {cell.relation for cell in done.record.cells} == {"unknown"}
    (row,) = done.results.views()[0].rows
    assert np.isnan(row.means["unseen"].value)
    assert not np.isnan(row.means["all"].value)


def test_a_second_call_scores_only_what_is_new(project: Project, small: Path) -> None:
    first = fb.evaluate(small, targets="web", classes="rafdb", track=False)
    again = fb.evaluate(small, targets=["film"], classes="rafdb", trained_on=["film"], track=False)
    assert [cell.target for cell in again.record.cells] == ["web", "film"]
    assert again.record.cells[0].confusion == first.record.cells[0].confusion
    assert [cell.relation for cell in again.record.cells] == ["unseen", "source"]
    assert len(records(project)) == 1
    forgotten = fb.evaluate(small, targets=["film"], classes="rafdb", pretrained_on="none", track=False)
    (note,) = (note for note in forgotten.notes if "the earlier record" in note)
    assert "--trained-on film, which the new one lacks" in note
    assert not [note for note in again.notes if "the earlier record" in note]
    other = fb.evaluate(small, targets="web", classes="fer2013", name="other", track=False)
    assert other.record.spec.key != first.record.spec.key


def test_the_leaderboard_has_a_section_of_finished_models(project: Project, small: Path, bench: Bench) -> None:
    for name, seen in (("known", ["web"]), ("unknown", None)):
        fb.evaluate(small, classes="rafdb", name=name, trained_on=seen, track=False)
    result = bench("report")
    assert result.code == 0, result.err
    assert "finished models, official splits" in result.out
    assert "Unknown training data: external:unknown" in result.out
    assert "trained on web; pre-trained on unknown" in result.out
    sheet = (project.results / "report" / "leaderboard.csv").read_text()
    assert "external:known" in sheet
    verified = bench("verify", "results")
    assert "Sound: 2 records" in verified.out, verified.out
    compared = bench("compare", "external:known", "external:unknown")
    assert compared.code == 2
    assert "nobody stated what external:unknown learned from" in compared.err
    fb.evaluate(small, classes="fer2013", name="permuted", trained_on=["web", "film"], track=False)
    compared = bench("compare", "external:known", "external:permuted")
    assert compared.code == 0, compared.err
    assert "external:permuted against external:known" in compared.out


def test_verification_finds_a_changed_prediction(project: Project, small: Path, bench: Bench) -> None:
    done = fb.evaluate(small, targets="web", classes="rafdb", track=False)
    runs = project.results / "runs"
    cell = done.record.cells[0]
    confusion = [list(row) for row in cell.confusion]
    confusion[0][0] += 1
    store.save(replace(done.record, cells=(replace(cell, confusion=confusion),)), runs)
    assert "the confusion matrix of web differs" in bench("verify", "results").out


def test_a_callable(project: Project) -> None:
    done = fb.evaluate(brightness, targets="web", classes=EXPRESSIONS, name="bright", track=False)
    assert done.record.spec.weights["model"]
    assert done.record.cells[0].confusion[0][0] == sum(done.record.cells[0].confusion[0])
    assert "external:bright" in repr(done)
    assert "<table" in done._repr_html_()


def write(path: Path, rows: list[tuple[str, ...]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "expression"), *rows])
    return path


def test_a_file_of_predictions(project: Project, web: Domain, bench: Bench) -> None:
    split = web.split("test")
    rows = [(name, EXPRESSIONS[label]) for name, label in zip(split.ids.tolist(), split.labels, strict=True)]
    whole = write(
        project.root / "whole.csv", [(rows[0][0], "fear" if rows[0][1] == "sadness" else "sadness"), *rows[1:]]
    )
    done = fb.evaluate(predictions=whole, targets=["web"], name="me", track=False)
    assert done.results.cells.accuracy.tolist() == [99.0]
    assert np.isnan(done.results.evidence.calibrated(done.results.cells).ece).all()
    result = bench("evaluate", "--predictions", str(whole), "--suite", "synth5-tiny", "--no-track", "--targets", "web")
    assert result.code == 0, result.err
    assert "99.0" in result.out


def test_scores_of_guessing_are_warned_of(project: Project, web: Domain, small: Path, bench: Bench) -> None:
    split = web.split("test")
    wrong = [EXPRESSIONS[(label + 1) % 7] for label in split.labels]
    path = write(project.root / "wrong.csv", list(zip(split.ids.tolist(), wrong, strict=True)))
    with pytest.warns(UserWarning, match="mean recall over all targets is 0.0 %, and guessing has 14.3 %.* labels of"):
        fb.evaluate(predictions=path, targets="web", track=False)
    right = [EXPRESSIONS[label] for label in split.labels]
    write(path, list(zip(split.ids.tolist(), right, strict=True)))
    assert not fb.evaluate(predictions=path, targets="web", track=False).warnings


def test_a_file_of_other_images_names_one_that_it_lacks(project: Project, web: Domain) -> None:
    path = write(project.root / "other.csv", [("mine-1", "fear")])
    with pytest.raises(fb.BenchError, match=f"for any of its images, such as {web.split('test').ids[0]}$"):
        fb.evaluate(predictions=path, targets="web", track=False)


def test_two_conventions_under_one_name_are_one_row_and_a_note(project: Project, small: Path, bench: Bench) -> None:
    for classes in ("rafdb", "fer2013"):
        assert bench("evaluate", str(small), "--classes", classes, "--targets", "web", "--no-track").code == 0
    assert "a newer one of the same name has another model or convention: external:small 1" in bench("report").err


def test_a_target_is_scored_whole_or_marked(project: Project, web: Domain, bench: Bench) -> None:
    split = web.split("test")
    rows = [(name, EXPRESSIONS[label]) for name, label in zip(split.ids.tolist(), split.labels, strict=True)]
    path = str(write(project.root / "part.csv", rows[10:]))
    refused = bench("evaluate", "--predictions", path, "--targets", "web", "--no-track")
    assert refused.code == 2
    assert "web is not scored: 10 of 100 images have no prediction: test-" in refused.err
    assert "--partial" in refused.err
    assert not records(project)
    partial = bench("evaluate", "--predictions", path, "--targets", "web", "--no-track", "--partial")
    assert partial.code == 0, partial.err
    assert "partial, 90 of 100" in partial.out
    report = bench("report")
    assert "partial" in report.out
    assert "Sound" in bench("verify", "results").out
    found = store.load(records(project)[0])
    assert (found.cells[0].count, found.cells[0].absent) == (90, 10)


def test_claims_are_judged(project: Project, small: Path, bench: Bench) -> None:
    claims = "web=99.9,film=1,wild=50@7"
    result = bench(
        "evaluate", str(small), "--classes", "rafdb", "--claims", claims, "--no-track", "--suite", "synth5-tiny"
    )
    assert result.code == 0, result.err
    lines = {line.split("│")[1].strip(): line for line in result.out.split("Claims")[1].splitlines() if "│" in line}
    assert "not reproduced" in lines["web"]
    assert "reproduced (the measurement is higher)" in lines["film"]
    assert "cannot be decided (other n: 7 images are claimed, and 100 are scored)" in lines["wild"]
    done = fb.evaluate(small, classes="rafdb", claims={"web": 99.9}, track=False)
    assert done.claims.verdict.tolist() == ["not reproduced"]


def test_the_convention_is_found_and_faults_are_named(project: Project, weights: Any, bench: Bench) -> None:
    right = replace(PLAIN, colour="bgr", classes=CONTEMPT, range="0-255", mean=(127.5,))
    path = write_model(project.root / "m.onnx", weights, right)
    done = fb.evaluate(path, targets="web", find_convention="web", track=False)
    assert done.convention == right
    assert not done.warnings
    result = bench(
        "evaluate", str(path), "--targets", "web", "--find-convention", "web", "--colour", "rgb", "--no-track"
    )
    assert "colour: rgb is stated, and bgr fits better" in result.err
    assert "Convention: rgb 3 x 32 x 32" in result.out
    with pytest.warns(UserWarning, match="bgr fits better"):
        fb.evaluate(path, targets="web", find_convention="web", colour="rgb", track=False)


def test_datasets_that_are_unknown_are_named(small: Path, project: Project) -> None:
    seen: dict[str, Any] = {"trained_on": ["web", "dfew"], "pretrained_on": ["imagenet-1k", "mmi"]}
    done = fb.evaluate(small, targets="web", classes="rafdb", track=False, **seen)
    unknown = [note for note in done.notes if "is unknown here" in note]
    assert [note.partition(" is ")[0] for note in unknown] == ["--trained-on: dfew", "--pretrained-on: mmi"]


def test_metadata_state_the_convention(project: Project, weights: Any) -> None:
    right = replace(PLAIN, colour="bgr", classes=CONTEMPT, mean=(0.5,), deviation=(0.5,))
    path = write_model(project.root / "m.onnx", weights, right, metadata=right.metadata())
    assert fb.evaluate(path, targets="web", track=False).convention == right


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("", "name a model or a file of predictions"),
        ("MODEL --predictions MODEL", "one of the two"),
        ("MODEL", "the order of its classes is not stated; name it with --classes"),
        ("MODEL --classes happy,sad", "7 outputs, and 2 classes are stated"),
        ("MODEL --classes rafdb --layout nhwc", "layout: nhwc is stated, and the input of the model has nchw"),
        ("MODEL --classes rafdb --size 48", "size: (48, 48) is stated, and the input of the model has (32, 32)"),
        ("MODEL --classes rafdb --size big", "'big' is not a size"),
        ("MODEL --classes rafdb --mean 1,2", "mean: [1.0, 2.0] must be one number"),
        ("MODEL --classes rafdb --targets wbe", "'wbe' is not a domain of synth5-tiny; did you mean web?"),
        ("MODEL --classes rafdb --trained-on rafdbb", "there is no dataset 'rafdbb'; did you mean rafdb?"),
        ("MODEL --classes rafdb --trained-on MMAFEDB", "there is no dataset 'MMAFEDB'; did you mean mma?"),
        ("MODEL --classes rafdb --pretrained-on FER+", "there is no dataset 'FER+'; did you mean ferplus?"),
        ("MODEL --classes rafdb --trained-on ../x", "is not the name of a dataset"),
        ("MODEL --find-convention wbe", "'wbe' is not a domain of synth5-tiny"),
        ("MODEL --classes rafdb --claims web=0.9", "is a share; write it in per cent: 90"),
        ("MODEL --classes rafdb --claims wbe=90", "'wbe' is not among the targets"),
        ("MODEL --classes rafdb --name ///", "cannot be a name"),
        ("MODEL --classes rafdb --output z", "there is no output 'z'"),
        ("absent.onnx --classes rafdb", "does not exist"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_written(
    arguments: str, words: str, project: Project, small: Path, bench: Bench
) -> None:
    result = bench("evaluate", *arguments.replace("MODEL", str(small)).split(), "--no-track")
    assert result.code == 2, result.err
    assert words in result.err
    assert "Traceback" not in result.err
    assert not records(project)


def test_options_without_effect_are_refused(project: Project, web: Domain, bench: Bench) -> None:
    path = write(project.root / "p.csv", [("a", "sad")])
    result = bench("evaluate", "--predictions", str(path), "--colour", "bgr", "--no-track")
    assert "--colour: is ineffective with --predictions" in result.err


def test_a_name_is_made_of_the_file(project: Project, web: Domain, small: Path) -> None:
    odd = small.with_name("my model (1).onnx")
    odd.write_bytes(small.read_bytes())
    done = fb.evaluate(odd, targets="web", classes="rafdb", track=False)
    assert done.record.spec.method == "external:my-model-1"


@pytest.mark.slow
def test_a_finished_model_is_mirrored(project: Project, small: Path, bench: Bench) -> None:
    fb.evaluate(small, targets="web", classes="rafdb", track=False)
    result = bench("sync")
    assert result.code == 0, result.err
    assert "1 of 1 record" in result.out + result.err


def test_a_run_cannot_be_replayed(project: Project, small: Path, bench: Bench) -> None:
    fb.evaluate(small, targets="web", classes="rafdb", track=False)
    result = bench("run", "--replay", str(records(project)[0]))
    assert result.code == 2
    assert "finished model" in result.err


def test_keywords_are_checked(project: Project) -> None:
    with pytest.raises(TypeError, match=r"evaluate\(\) has no keyword 'color'; did you mean colour"):
        fb.evaluate(brightness, color="rgb")
    assert "| `--trained-on` | `trained_on` | `None` |" in table(EvaluateOptions, "evaluate")


def test_a_record_that_contradicts_itself_is_refused(project: Project, small: Path) -> None:
    fb.evaluate(small, targets="web", classes="rafdb", track=False)
    (path,) = records(project)
    content = json.loads(path.read_text())
    for changes in ({"exposure": None}, {"sources": ["web"]}, {"method": "external:../x"}):
        changed: dict[str, Any] = {**content, "spec": {**content["spec"], **changes}}
        changed.pop("checksum")
        path.write_text(json.dumps(changed))
        with pytest.raises(fb.BenchError, match="cannot be read as a record"):
            store.load(path)

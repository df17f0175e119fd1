"""`fergen-bench run`: what it prints, writes and refuses."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest
from running import MINE

from conftest import Bench
from fergen_bench.execution.local import visible_gpus
from fergen_bench.experiment.project import Project
from fergen_bench.records.counting import load_all
from fergen_bench.records.frame import cells_frame
from fergen_bench.report import figures
from fergen_bench.report.figures import layout

DIVERGING = '''"""Mine."""
from dataclasses import dataclass
import torch
from fergen_bench import GradientMethod
@dataclass
class Mine(GradientMethod):
    learning_rate: float = 0.01
    def build(self, ctx):
        return torch.nn.Linear(12, 7)
    def loss(self, batch):
        loss = torch.nn.functional.cross_entropy(self.logits(batch.images), batch.labels)
        return loss * (torch.nan if batch.step == 3 else 1.0)
    def logits(self, images):
        return self.model(images[:, :, :2, :2].flatten(1).float() / 255)
'''


def test_run_then_run_again_then_report(mine: Project, bench: Bench) -> None:
    first = bench("run", "--method", "mine", "--seeds", "0", "--jobs", "0", "--no-track")
    assert first.code == 0, first.err
    assert "synth5-tiny, synthetic faces · leave-none · mine · cpu · fp32 · 5 runs, 0 done before" in first.err
    assert "mine on web, seed 0: in-domain 33.0, unseen" in first.err
    assert "5 runs done in" in first.err
    second = bench("run", "--method", "mine", "--seeds", "0")
    assert second.code == 0
    assert "Nothing to do: all 5 runs have records" in second.err
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "save", layout.save)  # this report is drawn; see the fixture `sketched`
        report = bench("report")
    assert report.code == 0
    assert "Leaderboard, accuracy (%)" in report.out
    assert (mine.results / "report" / "leaderboard.md").is_file()
    assert "mine" in (mine.results / "report" / "index.html").read_text(encoding="utf-8")
    for ending, head in ((".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")):
        assert (mine.results / "report" / f"synth5-tiny-mine{ending}").read_bytes().startswith(head)
    assert "Report of synth5-tiny: results/report/index.html, and beside it" in report.out
    assert bench("report", "--metric", "macro_f1", "--to", str(mine.root / "f1")).code == 0
    assert "macro F1" in (mine.root / "f1" / "leaderboard.md").read_text()


@pytest.mark.slow
def test_the_same_command_from_empty_caches_gives_the_same_numbers(
    tmp_path: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = ("--method", "cafe", "--method", "linear_probe", "--method", "full_finetune")
    outcomes = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "bench.toml").write_text('device = "cpu"\n')
        monkeypatch.chdir(tmp_path / name)
        assert bench("run", "--protocol", "smoke", *methods, "--no-track").code == 0
        records, faults = load_all(tmp_path / name / "results" / "runs")
        assert len(records) == 3
        assert not faults
        outcomes.append({record.spec.key: [cell.confusion for cell in record.cells] for record in records})
    assert outcomes[0] == outcomes[1]


def test_runs_are_mirrored_and_can_be_mirrored_later(mine: Project, bench: Bench) -> None:
    arguments = ("run", "--method", "mine", "--seeds", "0", "--sources", "web", "--jobs", "0")
    assert bench(*arguments, "--no-track").code == 0
    assert not (mine.results / "mlflow.db").exists()
    assert "1 of 1 record written to sqlite:///" in bench("sync").err
    assert "1 record: 1 already mirrored" in bench("sync").err
    assert bench(*arguments, "--set", "shift=1.0").code == 0
    assert "2 records: 2 already mirrored" in bench("sync").err


def test_a_dry_run_of_many_runs_counts_them_by_method(mine: Project, bench: Bench) -> None:
    arguments = ("--method", "mine", "--no-track", "--jobs", "0")
    assert bench("run", *arguments, "--seeds", "0,1").code == 0
    said = bench("run", *arguments, "--seeds", "0,1,2,3,4", "--dry-run")
    assert said.code == 0, said.err
    text = " ".join(said.out.split())
    assert "25 │ 10 done, 15 to run" in text, text
    assert "0, 1, 2, 3, 4" in text
    assert text.count("│ mine") == 1
    assert "to run: mine on web, seed 4" in text
    assert "25 runs, 10 done before, 15 to do" in text
    few = bench("run", *arguments, "--seeds", "0,1,2,3", "--dry-run").out
    assert few.count("│ mine") == 20


def test_a_dry_run_runs_nothing(mine: Project, bench: Bench) -> None:
    result = bench("run", "--method", "mine", "--protocol", "leave-one-out", "--seeds", "0,1", "--dry-run")
    assert result.code == 0
    assert result.out.count("to run") == 10
    assert "film + grey48 + scrape + wild" in result.out
    assert not (mine.results / "runs").exists()


def test_a_parameter_is_changed_by_its_name(mine: Project, bench: Bench) -> None:
    assert (
        bench(
            "run",
            "--method",
            "mine",
            "--sources",
            "web",
            "--seeds",
            "0",
            "--set",
            "shift=0.5",
            "--jobs",
            "0",
            "--no-track",
        ).code
        == 0
    )
    (path,) = (mine.results / "runs").glob("*/*/*.json")
    assert json.loads(path.read_text())["spec"]["parameters"] == {"shift": 0.5}
    assert "mine (shift=0.5)" in bench("report").out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def broken(:", r"methods/mine\.py:1: this method file is not valid Python"),
        ("import nowhere_to_be_found\n" + MINE, r"mine\.py:1: this method file fails to load: ModuleNotFoundError"),
        (
            MINE.replace(
                "self.counts.expand(len(images), 7)", "self.counts * float('nan') * torch.ones(len(images), 7)"
            ),
            "NaN or infinite",
        ),
        (
            MINE.replace("self.counts.expand(len(images), 7)", "self.counts"),
            r"must return logits of the shape \(100, 7\), not \(7,\)",
        ),
    ],
)
@pytest.mark.parametrize("jobs", ["0", "1"])
def test_a_bad_method_file_is_one_sentence_and_exit_code_2(
    mine: Project, bench: Bench, text: str, message: str, jobs: str
) -> None:
    (mine.root / "methods" / "mine.py").write_text(text)
    result = bench("run", "--method", "mine", "--seeds", "0", "--sources", "web", "--jobs", jobs)
    assert result.code == 2
    assert re.search(message, result.err), result.err
    assert "Traceback" not in result.err


def test_a_failing_run_is_exit_code_1_with_a_trace_on_disk(mine: Project, bench: Bench) -> None:
    (mine.root / "methods" / "mine.py").write_text(MINE.replace("self.counts = ", "1 / 0; self.counts = "))
    result = bench("run", "--method", "mine", "--seeds", "0", "--sources", "web", "--jobs", "0")
    assert result.code == 1
    assert "mine on web, seed 0: ZeroDivisionError" in result.err
    (trace,) = (mine.results / "failed").iterdir()
    assert "Traceback" in trace.read_text()


def test_a_nan_loss_ends_the_run_at_a_named_step_without_a_trace(mine: Project, bench: Bench) -> None:
    (mine.root / "methods" / "mine.py").write_text(DIVERGING)
    result = bench("run", "--method", "mine", "--seeds", "0", "--sources", "web", "--jobs", "0")
    assert result.code == 2
    assert "the loss of Mine was nan at step 4 (epoch 1); lower learning_rate (it is 0.01)" in result.err
    assert "Traceback" not in result.err
    assert not list(mine.results.glob("runs/**/*.*"))
    (trace,) = (mine.results / "failed").iterdir()
    assert "at step 4 (epoch 1)" in trace.read_text()


def test_smoke_runs_every_method_that_can_run(mine: Project, bench: Bench) -> None:
    (mine.root / "methods" / "broken.py").write_text("class Broken(")
    result = bench("run", "--protocol", "smoke", "--dry-run")
    assert result.code == 0, result.err
    notes = [line for line in result.err.splitlines() if line.startswith("note: left out:")]
    for name, why in (
        ("flyp", "text tower"),
        ("zero_shot", "text tower"),
        ("vrex", "domains"),
        ("broken.py", "Python"),
    ):
        assert any(name in note and why in note for note in notes), name
    assert "mine" in result.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "epochs=0"], "--set: sd: epochs is 0; it takes 1 or more"),
        (["--set", "stream_batch=8"], "--set: sd is not an online method, so it has no parameter 'stream_batch'"),
        (["--set", "batch_size=1"], "sd: batch_size is 1; it takes 2 or more"),
        (["--backbone", "synth"], "--backbone: the method sd has no parameter backbone. It has --set trunk=…."),
        (["--set", "learning_rate=0.0"], "sd: learning_rate is 0; it must be above 0"),
    ],
)
def test_values_that_prevent_learning_are_refused_before_any_run(
    mine: Project, bench: Bench, arguments: list[str], said: str
) -> None:
    result = bench("run", "--method", "sd", "--seeds", "0", *arguments)
    assert result.code == 2
    assert said in result.err
    assert not list(mine.results.glob("failed/*"))


@pytest.mark.skipif(bool(visible_gpus()), reason="there is a GPU")
def test_a_missing_gpu_is_reported_at_once(mine: Project, bench: Bench) -> None:
    result = bench("run", "--method", "mine", "--device", "cuda")
    assert (result.code, "this machine has no usable GPU" in result.err) == (2, True)


@pytest.mark.slow
def test_profile_prints_the_slowest_operations(bench: Bench, tmp_path: Path) -> None:
    run = ["run", "-m", "cafe", "--sources", "web", "--seeds", "0", "--set", "epochs=5", "--no-track", "--profile"]
    result = bench(*run, "--jobs", "0")
    assert result.code == 0, result.err
    for kind, steps in (("training", 20), ("scoring", 4)):
        (path,) = (tmp_path / "results" / "profiles").glob(f"*.{kind}.json.gz")
        with gzip.open(path, "rt") as file:
            events = json.load(file)["traceEvents"]
        names = [event["name"] for event in events if event.get("cat") == "user_annotation"]
        assert names.count("forward") == steps, kind
        assert any(event["name"] == "aten::linear" for event in events)
    (path,) = (tmp_path / "results" / "profiles").glob("*[0-9a-f].json")
    about = json.loads(path.read_text())
    training = about["training"]
    assert set(training["phases"]) == {"data", "augment", "frozen tower", "forward", "backward", "optimizer"}
    assert min(training["phases"].values()) > 0
    assert sum(training["phases"].values()) <= training["seconds"]
    assert 0 < about["evaluation"] < about["seconds"]
    for name in ("backward", "evaluation", "perfetto"):
        assert name in result.err
    (record,) = load_all(tmp_path / "results" / "runs")[0]
    assert record.environment["profiled"]
    assert cells_frame([record]).fit_seconds.isna().all()
    assert "Nothing to do" in bench(*run).err


def test_extra_weights_in_a_file_are_reported_once_and_recorded(mine: Project, bench: Bench, tmp_path: Path) -> None:
    import timm
    import torch

    torch.save(timm.create_model("test_resnet", num_classes=5).state_dict(), tmp_path / "w.pth")
    chosen = ("--backbone", f"timm:test_resnet/{tmp_path / 'w.pth'}", "--sources", "web,film", "--targets", "web")
    result = bench("run", "--method", "nearest_prototype", *chosen, "--seeds", "0", "--no-track", "--jobs", "0")
    assert result.code == 0, result.err
    said = "note: the weights of timm:test_resnet: left out of its file: fc.weight, fc.bias"
    assert result.err.count(said) == 1
    records, faults = load_all(mine.results / "runs")
    assert (len(records), faults) == (2, [])
    assert all(entry.networks["backbone"]["notes"] == [said.partition("resnet: ")[2]] for entry in records)


def test_a_method_on_a_shipped_one_runs_in_a_worker_and_is_replayed(mine: Project, bench: Bench) -> None:
    (mine.root / "methods" / "mine.py").write_text(
        '"""Mine."""\nfrom dataclasses import dataclass\nfrom fergen_bench.methods import nearest_prototype\n'
        "@dataclass\nclass Mine(nearest_prototype.NearestPrototype):\n    factor: float = 2.0\n"
        "    def predict(self, images):\n        return self.factor * super().predict(images)\n"
    )
    ran = bench("run", "--method", "mine", "--protocol", "smoke", "--jobs", "1", "--no-track")
    assert ran.code == 0, ran.err
    (record,) = (mine.results / "runs").rglob("*.json")
    assert json.loads(record.read_text())["method_digest"] == mine.method("mine").digest
    replayed = bench("run", "--replay", str(record))
    assert replayed.code == 0, replayed.err


def test_a_dry_run_refuses_an_empty_copy(project: Project, bench: Bench) -> None:
    suite = '[suites.s]\ndomains = ["lab"]\nbackbone = "synth"\ntrunk = "synth-trunk"\nrecipe = "small"\n'
    with (project.root / "bench.toml").open("a") as file:
        file.write(f'\n[domains.lab]\npath = "lab"\n{suite}')
    (project.root / "lab").mkdir()
    refused = bench("run", "--suite", "s", "--method", "linear_probe", "--dry-run")
    assert refused.code == 2
    assert f"domains.lab.path: {project.root / 'lab'} is empty; put the images there" in refused.err

"""The commands, run as a user types them."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from examples import SPEC, finished, litter

from conftest import Bench
from fergen_bench.api import prepared
from fergen_bench.cli import app
from fergen_bench.cli.templates import method_template
from fergen_bench.data.prepared import write_prepared
from fergen_bench.execution.local import visible_gpus
from fergen_bench.experiment.project import Project
from fergen_bench.experiment.protocol import read_protocol
from fergen_bench.records.counting import load_all
from fergen_bench.records.frame import cells_frame
from fergen_bench.records.record import Cell
from fergen_bench.records.store import save

METHOD = '''"""Mine."""
from dataclasses import dataclass
import torch
from fergen_bench import Method
@dataclass
class Mine(Method):
    shift: float = 0.0  # of the logits
    def fit(self, source, ctx):
        self.counts = torch.from_numpy(source.train.counts).float()
    def predict(self, images):
        return self.counts.expand(len(images), 7) + self.shift
'''

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


@pytest.fixture
def lab(project: Project) -> Project:
    (project.root / "methods").mkdir()
    (project.root / "methods" / "mine.py").write_text(METHOD)
    return project


def test_run_then_run_again_then_report(lab: Project, bench: Bench) -> None:
    first = bench("run", "--method", "mine", "--seeds", "0", "--jobs", "0", "--no-track")
    assert first.code == 0, first.err
    assert "synth5-tiny, synthetic faces · leave-none · mine · cpu · fp32 · 5 runs, 0 done before" in first.err
    assert "mine on web, seed 0: in-domain 33.0, unseen" in first.err
    assert "5 runs done in" in first.err
    second = bench("run", "--method", "mine", "--seeds", "0")
    assert second.code == 0
    assert "Nothing to do: all 5 runs have records" in second.err
    report = bench("report")
    assert report.code == 0
    assert "Leaderboard, accuracy (%)" in report.out
    assert (lab.results / "report" / "leaderboard.md").is_file()
    assert "mine" in (lab.results / "report" / "index.html").read_text(encoding="utf-8")
    assert (lab.results / "report" / "synth5-tiny-mine.png").is_file()
    assert "Report of synth5-tiny: results/report/index.html, and beside it" in report.out
    assert bench("report", "--metric", "macro_f1", "--to", str(lab.root / "f1")).code == 0
    assert "macro F1" in (lab.root / "f1" / "leaderboard.md").read_text()


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


def test_runs_are_mirrored_and_can_be_mirrored_later(lab: Project, bench: Bench) -> None:
    arguments = ("run", "--method", "mine", "--seeds", "0", "--sources", "web", "--jobs", "0")
    assert bench(*arguments, "--no-track").code == 0
    assert not (lab.results / "mlflow.db").exists()
    assert "1 of 1 record written to sqlite:///" in bench("sync").err
    assert "1 record: 1 already mirrored" in bench("sync").err
    assert bench(*arguments, "--set", "shift=1.0").code == 0
    assert "2 records: 2 already mirrored" in bench("sync").err


def test_a_dry_run_runs_nothing(lab: Project, bench: Bench) -> None:
    result = bench("run", "--method", "mine", "--protocol", "leave-one-out", "--seeds", "0,1", "--dry-run")
    assert result.code == 0
    assert result.out.count("to run") == 10
    assert "film + grey48 + scrape + wild" in result.out
    assert not (lab.results / "runs").exists()


def test_a_parameter_is_changed_by_its_name(lab: Project, bench: Bench) -> None:
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
    (path,) = (lab.results / "runs").glob("*/*/*.json")
    assert json.loads(path.read_text())["spec"]["parameters"] == {"shift": 0.5}
    assert "mine (shift=0.5)" in bench("report").out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("run --method cafee", r"no method 'cafee' in .*; did you mean cafe\?"),
        ("run --method mine --protocol leave-non", r"no protocol 'leave-non' .*did you mean leave-none\?"),
        ("run --method mine --suite synth6", r"no suite 'synth6'; did you mean synth5\?"),
        ("run --method linear_probe --backbone sinth", r"--set: backbone: no network 'sinth'; did you mean synth\?"),
        ("run --method mine --backbone synth", r"--backbone: the method mine has no parameter backbone"),
        ("run --method mine --set shft=1", r"--set: the method mine has no parameter 'shft'; did you mean shift\?"),
        ("run --method mine --set shift=high", r"--set: shift takes float, not 'high'"),
        ("run --method mine --set shift", r"'shift' is not a setting; write name=value"),
        ("run --method mine --seeds one", r"'one' is not a list of integers; write 0,1,2"),
        ("run --method mine --shard 3/2", r"'3/2' is not a share"),
        ("run --method mine --device tpu", r"--device: 'tpu' is not a device"),
        ("run --method mine --sources webb", r"--sources: .* has no domain 'webb'; did you mean web\?"),
        ("run", r"name a method with --method; there are cafe, .* and \d+ more\. See: fergen-bench list"),
        ("runn", r"no command 'runn'; did you mean run\?"),
        ("list cafee", r"nothing is called 'cafee'; did you mean cafe\?"),
        ("report", r"results/runs: no such records of synth5-tiny\. Make some"),
        ("data describe webb", r"no domain 'webb', .*did you mean web\?"),
        ("new-method cafe", r"a method 'cafe' exists already"),
        ("new-method 1st", r"'1st' cannot be the name of a method"),
        ("ui", r"sqlite:.*: contains no mirrored records"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence_and_exit_code_2(lab: Project, bench: Bench, arguments: str, message: str) -> None:
    result = bench(*arguments.split())
    assert result.code == 2
    assert re.search(message, result.err.replace("\n", " ")), result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def broken(:", r"methods/mine\.py:1: this method file is not valid Python"),
        ("import nowhere_to_be_found\n" + METHOD, r"mine\.py:1: this method file fails to load: ModuleNotFoundError"),
        (
            METHOD.replace(
                "self.counts.expand(len(images), 7)", "self.counts * float('nan') * torch.ones(len(images), 7)"
            ),
            "NaN or infinite",
        ),
        (
            METHOD.replace("self.counts.expand(len(images), 7)", "self.counts"),
            r"must return logits of the shape \(100, 7\), not \(7,\)",
        ),
    ],
)
@pytest.mark.parametrize("jobs", ["0", "1"])
def test_a_bad_method_file_is_one_sentence_and_exit_code_2(
    lab: Project, bench: Bench, text: str, message: str, jobs: str
) -> None:
    (lab.root / "methods" / "mine.py").write_text(text)
    result = bench("run", "--method", "mine", "--seeds", "0", "--sources", "web", "--jobs", jobs)
    assert result.code == 2
    assert re.search(message, result.err), result.err
    assert "Traceback" not in result.err


def test_a_run_that_breaks_is_exit_code_1_with_a_trace_on_disk(lab: Project, bench: Bench) -> None:
    (lab.root / "methods" / "mine.py").write_text(METHOD.replace("self.counts = ", "1 / 0; self.counts = "))
    result = bench("run", "--method", "mine", "--seeds", "0", "--sources", "web", "--jobs", "0")
    assert result.code == 1
    assert "mine on web, seed 0: ZeroDivisionError" in result.err
    (trace,) = (lab.results / "failed").iterdir()
    assert "Traceback" in trace.read_text()


def test_a_loss_that_is_no_number_ends_the_run_at_a_named_step_and_leaves_its_trace_alone(
    lab: Project, bench: Bench
) -> None:
    (lab.root / "methods" / "mine.py").write_text(DIVERGING)
    result = bench("run", "--method", "mine", "--seeds", "0", "--sources", "web", "--jobs", "0")
    assert result.code == 2
    assert "the loss of Mine was nan at step 4 (epoch 1); lower learning_rate (it is 0.01)" in result.err
    assert "Traceback" not in result.err
    assert not list(lab.results.glob("runs/**/*.*"))
    (trace,) = (lab.results / "failed").iterdir()
    assert "at step 4 (epoch 1)" in trace.read_text()


def test_debug_shows_the_traceback(lab: Project, bench: Bench) -> None:
    for arguments in (("run", "--method", "cafee", "--debug"), ("--debug", "run", "--method", "cafee")):
        with pytest.raises(Exception, match="no method 'cafee'"):
            bench(*arguments)
    assert bench("run", "--method", "cafee").code == 2
    # Behind -- it is a word like others.
    assert bench("new-method", "--", "--debug").code == 2


def test_the_group_itself_reads_debug() -> None:
    for arguments, debug in ((["list"], False), (["--debug", "list"], True)):
        asked: dict[str, bool] = {}
        app.main(arguments, obj=asked, standalone_mode=False)
        assert asked == {"debug": debug}


def test_lists(lab: Project, bench: Bench) -> None:
    everything = bench("list").out
    for name in ("cafe", "mine", "leave-none", "synth5", "open_clip:MODEL/TAG", "grey48", "rafdb"):
        assert name in everything
    (lab.root / "methods" / "broken.py").write_text("class Broken(")
    methods = bench("list", "methods").out
    assert "Methods that need frozen features" in methods
    assert "[yours]" in methods
    assert "this method file is not valid Python" in " ".join(methods.split())
    assert "sigmoid | linear" in bench("list", "cafe").out
    (lab.root / "protocols").mkdir()
    (lab.root / "protocols" / "torn.yaml").write_text("about: [")
    protocols = " ".join(bench("list", "protocols").out.split())
    assert "torn cannot be read:" in protocols
    assert "sources: each" in bench("list", "leave-none").out
    assert "synth5 is one of the suites" in bench("list", "synth5").err
    assert "did you mean leave-none?" in bench("list", "leave-nun").err
    assert "score all of them" in protocols
    parameters = bench("list", "mine").out
    assert "shift" in parameters
    assert "of the logits" in parameters


def test_smoke_goes_through_all_methods_that_can_be_run(lab: Project, bench: Bench) -> None:
    (lab.root / "methods" / "broken.py").write_text("class Broken(")
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
        (["--set", "epochs=0"], "leave-none.yaml: sd: epochs is 0; it takes 1 or more"),
        (["--set", "batch_size=1"], "sd: batch_size is 1; it takes 2 or more"),
        (["--backbone", "synth"], "--backbone: the method sd has no parameter backbone. It has --set trunk=…."),
        (["--set", "learning_rate=0.0"], "sd: learning_rate is 0; it must be above 0"),
    ],
)
def test_what_nothing_could_be_learned_with_is_refused_before_anything_is_begun(
    lab: Project, bench: Bench, arguments: list[str], said: str
) -> None:
    result = bench("run", "--method", "sd", "--seeds", "0", *arguments)
    assert result.code == 2
    assert said in result.err
    assert not list(lab.results.glob("failed/*"))


@pytest.mark.skipif(bool(visible_gpus()), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_said_at_once(lab: Project, bench: Bench) -> None:
    result = bench("run", "--method", "mine", "--device", "cuda")
    assert (result.code, "this machine has no usable GPU" in result.err) == (2, True)


def test_help_has_examples(bench: Bench) -> None:
    assert "fergen-bench run --method cafe --protocol leave-none" in bench("--help").out
    assert "fergen-bench run --protocol cafe-ablation" in bench("run", "--help").out


@pytest.mark.parametrize("kind", ["gradient", "frozen"])
def test_a_new_method_runs_as_it_stands(project: Project, bench: Bench, kind: str) -> None:
    made = bench("new-method", "my_idea", "--kind", kind)
    assert made.code == 0
    assert "methods/my_idea.py is written" in made.out
    result = bench("run", "--method", "my_idea", "--protocol", "smoke", "--jobs", "0", "--no-track")
    assert result.code == 0, result.err
    assert "my_idea" in bench("report").out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(bench: Bench, shell: str) -> None:
    assert "_FERGEN_BENCH_COMPLETE" in bench("completion", shell).out


def test_describe_with_a_contact_sheet(project: Project, bench: Bench) -> None:
    result = bench("data", "describe", "web", "--suite", "synth5-tiny", "--sheet", "sheet.png")
    assert result.code == 0
    assert "fingerprint" in result.out
    assert "happiness" in result.out
    assert Path("sheet.png").stat().st_size > 10_000
    result = bench("data", "describe", "web", "--suite", "synth5-tiny", "--sheet", "sheet.gif")
    assert result.code == 2
    assert "sheet.gif: a contact sheet is an image. Choose a name that ends in .png or .jpg" in result.err


def test_a_report_says_which_expressions_a_source_could_not_teach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = {"id": ["a", "b"], "expression": ["anger", "neutral"], "split": ["train", "test"]}
    write_prepared(tmp_path / "web", "web", [np.zeros((2, 8, 8, 3), np.uint8)], columns, {"profile": "official"})
    monkeypatch.setattr(prepared, "folder", lambda project, suite, name: tmp_path / name)
    said = prepared.lacking(Project(tmp_path, configured=False), [finished(replace(SPEC, sources=("web",)))])
    assert len(said) == 1
    assert "the source web has no training images of surprise, fear, disgust, happiness, sadness, neutral" in said[0]


def test_parameters_are_chosen_without_a_look_at_targets(project: Project, bench: Bench) -> None:
    (project.root / "methods").mkdir()
    (project.root / "methods" / "tiny.py").write_text(method_template("tiny", "gradient"))
    refused = bench("choose")
    assert refused.code == 2
    assert "no run on synth5-tiny has a score on held-out images of its source" in refused.err
    arguments = ("--sources", "film", "--set", "epochs=1", "--jobs", "0", "--no-track")
    assert bench("run", "--method", "tiny", "--protocol", "learning-rate", *arguments).code == 0
    records = [json.loads(path.read_text()) for path in (project.results / "runs").glob("*/*/*.json")]
    assert len(records) == len(read_protocol(project.protocol_path("learning-rate")).variants)
    assert all(record["cells"] == [] for record in records)
    for command in (("report",), ("report", "--selection", "source-val"), ("compare", "tiny", "tiny (epochs=1)")):
        refused = bench(*command)
        assert refused.code == 2
        said = "these runs scored no target. Compare them with: fergen-bench choose --suite synth5-tiny"
        assert said in refused.err, refused.err
    shown = bench("choose").out
    assert re.search(r"tiny +[\d.]+ .*\n +epochs=1 *\n +learning_rate=0.001", shown)
    assert "film" in shown
    assert "last epoch, 50% of the data" in shown
    assert "left out" not in shown
    assert re.search(r"tiny, (highest|best): learning_rate=0.00\d+", shown)
    assert re.search(r"Only \d\d held-out faces", shown)
    runs = project.results / "runs"
    one, other, *_ = load_all(runs)[0]
    shutil.rmtree(runs)
    save(one, runs)
    save(replace(other, spec=replace(other.spec, seed=1)), runs)
    assert "were not trained on the same sources and seeds, so none is compared" in bench("choose").out


def test_records_that_are_not_there_are_named_and_those_that_are_too(project: Project, bench: Bench) -> None:
    for suite in ("one", "two"):
        save(finished(replace(SPEC, suite=suite)), project.results / "runs")
    for command in (("report",), ("compare", "cafe", "scn"), ("choose",)):
        refused = bench(*command)
        assert (refused.code, "name one: --suite one or two" in refused.err) == (2, True), refused.err
    for command in ("report", "choose"):
        refused = bench(command, "--suite", "one", "-m", "caffe")
        assert refused.code == 2
        assert "no records of 'caffe' on one; did you mean cafe?" in refused.err


def right(share: int) -> list[list[int]]:
    """A confusion with so many of 7,000 faces right, as many of each expression."""
    return [[share // 7 if row == column else (1000 - share // 7) // 6 for column in range(7)] for row in range(7)]


def test_copies_of_records_beside_them_change_no_number(project: Project, bench: Bench) -> None:
    runs = project.results / "runs"
    for method, base in (("cafe", 1120), ("scn", 2800)):
        for seed in (0, 1):
            spec = replace(SPEC, method=method, seed=seed)
            cells = [Cell("a", "f1", "source", right(6720)), Cell("b", "f2", "unseen", right(base + 504 * seed))]
            save(finished(spec, cells=tuple(cells), started=f"2026-01-01T0{seed}:00:00+00:00"), runs)
    before = bench("report", "--to", str(project.root / "before"))
    assert re.search(r"cafe .*19\.6", before.out), before.out
    strays = litter(SPEC.path(runs))
    for command in (
        ("report", "--to", str(project.root / "after")),
        ("compare", "cafe", "scn"),
        ("choose",),
        ("verify", str(project.results)),
        ("sync",),
    ):
        said = bench(*command)
        text = " ".join((said.out + said.err).split())
        assert text.count(f"{strays} files are not records in their own places") == 1, (command, text)
        if command[0] == "report":
            assert re.search(r"cafe .*19\.6", said.out), said.out
        if command[0] == "sync":
            assert "4 of 4 records" in said.err
    one, other = ((project.root / folder / "leaderboard.csv").read_bytes() for folder in ("before", "after"))
    assert one == other


@pytest.mark.slow
def test_a_profile_tells_where_the_time_goes(bench: Bench, tmp_path: Path) -> None:
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


def test_what_a_file_of_weights_holds_beside_the_network_is_said_once_and_recorded(
    lab: Project, bench: Bench, tmp_path: Path
) -> None:
    import timm
    import torch

    torch.save(timm.create_model("test_resnet", num_classes=5).state_dict(), tmp_path / "w.pth")
    chosen = ("--backbone", f"timm:test_resnet/{tmp_path / 'w.pth'}", "--sources", "web,film", "--targets", "web")
    result = bench("run", "--method", "nearest_prototype", *chosen, "--seeds", "0", "--no-track", "--jobs", "0")
    assert result.code == 0, result.err
    said = "note: the weights of timm:test_resnet: left out of its file: fc.weight, fc.bias"
    assert result.err.count(said) == 1
    records, faults = load_all(lab.results / "runs")
    assert (len(records), faults) == (2, [])
    assert all(entry.networks["backbone"]["notes"] == [said.partition("resnet: ")[2]] for entry in records)

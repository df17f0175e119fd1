"""Tests of captured steps: replays compute the same weights as single steps."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import ROOT
from fergen_bench.data.domain import Domain
from fergen_bench.data.source import open_source
from fergen_bench.error import BenchError
from fergen_bench.execution.runner import repeatable_on_gpu
from fergen_bench.experiment.method_file import read_method
from fergen_bench.experiment.run import Precision
from fergen_bench.training import fitting
from fergen_bench.training import graph as steps
from fergen_bench.training.augment import SampleDraws
from fergen_bench.training.contract import Context
from fergen_bench.training.load import load_method
from fergen_bench.training.loop import GradientMethod

STATIC = [
    path.stem
    for path in sorted((ROOT / "methods").glob("*.py"))
    if "static_step: ClassVar[bool] = True" in path.read_text()
]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


class CountedReplays(steps.CapturedStep):
    """A captured step that counts its replays."""

    replays = 0

    def _step(self, batch: steps.Batch) -> Any:
        CountedReplays.replays += self._graph is not None
        return super()._step(batch)


def trained(
    name: str,
    web: Domain,
    cache: Path,
    recorded: bool,
    device: str,
    seed: int = 0,
    selection: str = "last",
    fraction: float = 0.23,
    precision: Precision | None = None,
    **changes: Any,
) -> GradientMethod:
    """A method after some epochs, each with a last batch that is not full."""
    file = read_method(ROOT / "methods" / f"{name}.py")
    values = {**file.defaults("small"), "epochs": 2 if device == "cpu" else 5, "batch_size": 16}
    values |= {"trunk": "synth-trunk"} if "trunk" in values else {}
    values |= {"backbone": "synth"} if "backbone" in values else {}
    method: Any = load_method(file.path, file.class_name, {**values, **changes})
    if device == "cuda":
        repeatable_on_gpu()
    torch.manual_seed(seed)
    ctx = Context("steps", seed, selection, torch.device(device), cache, lambda what, done, total: None)
    ctx.capture_steps, ctx.precision = recorded, precision or ctx.precision
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "CapturedStep", CountedReplays)
        CountedReplays.replays = 0
        source = open_source([web], 0, fraction)
        assert len(source.train) % 16 > 1 or fraction == 1.0
        method.fit(source, ctx)
    method.history, method.steps = ctx.history, ctx.steps
    assert isinstance(method, GradientMethod)
    assert CountedReplays.replays > (10 if recorded and device == "cuda" else -1)
    return method


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", STATIC)
def test_a_captured_step_computes_the_same_weights(name: str, device: str, web: Domain, tmp_path: Path) -> None:
    plain, repeated = (trained(name, web, tmp_path, recorded, device) for recorded in (False, True))
    for key, value in plain.model.state_dict().items():
        other = repeated.model.state_dict()[key]
        assert torch.equal(other, value), key
    for one, other in zip(plain.history, repeated.history, strict=True):  # type: ignore[attr-defined]
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available() or shutil.which("cc") is None, reason="no GPU, or no compiler")
def test_a_long_training_is_compiled(web: Domain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = trained("cafe", web, tmp_path, True, "cuda")
    monkeypatch.setattr(steps, "COMPILED_FROM", 0)
    one, two = (trained("cafe", web, tmp_path, True, "cuda") for _ in range(2))
    assert (plain.steps, one.steps) == ("recorded", "recorded, compiled")  # type: ignore[attr-defined]
    for key, value in one.model.state_dict().items():
        assert torch.equal(two.model.state_dict()[key], value), key
    assert one.history[-1]["loss"] == pytest.approx(plain.history[-1]["loss"], rel=0.02)  # type: ignore[attr-defined]


def test_every_setting_of_cafe_is_a_static_step(web: Domain, tmp_path: Path) -> None:
    for changes in (
        {"features": "cached", "gate": "none", "groups": "even"},
        {"diversity_form": "distinct", "head": "channel"},
    ):
        plain, repeated = (trained("cafe", web, tmp_path, recorded, "cpu", **changes) for recorded in (False, True))
        for key, value in plain.model.state_dict().items():
            assert torch.equal(repeated.model.state_dict()[key], value), (changes, key)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "sgd", "learning_rate": 1e-3},
        {"schedule": "constant"},
        {"selection": "source-val"},
        {"sampling": "balanced"},
    ],
)
def test_a_captured_step_agrees_for_optimizers_schedules_and_selections(
    changes: dict[str, Any], device: str, web: Domain, tmp_path: Path
) -> None:
    plain, repeated = (
        trained("full_finetune", web, tmp_path, recorded, device, **changes) for recorded in (False, True)
    )
    for key, value in plain.model.state_dict().items():
        assert torch.equal(repeated.model.state_dict()[key], value), key


def with_lines(lines: str, web: Domain, folder: Path, recorded: bool = True) -> GradientMethod:
    """full_finetune after an epoch on the CPU, with some lines in its loss before what it returns."""
    path = folder / "method.py"
    inserted = "".join(f"        {line}\n" for line in lines.splitlines())
    loss = f"\n    def loss(self, batch):\n{inserted}        return super().loss(batch)\n"
    text = (ROOT / "methods" / "full_finetune.py").read_text() + loss
    path.write_text(text.replace("from torch import", "import torch\nfrom torch import", 1))
    file = read_method(path)
    values = {**file.defaults("small"), "backbone": "synth-trunk", "batch_size": 16, "epochs": 1}
    method: Any = load_method(path, file.class_name, values)
    ctx = Context("steps", 0, "last", torch.device("cpu"), folder, lambda what, done, total: None)
    ctx.capture_steps = recorded
    method.fit(open_source([web], 0, 0.23), ctx)
    method.steps = ctx.steps
    assert isinstance(method, GradientMethod)
    return method


def test_an_attribute_that_changes_from_step_to_step_raises(web: Domain, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="changes its attribute seen from step to step"):
        with_lines("self.seen = getattr(self, 'seen', 0) + 1", web, tmp_path)


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        ("self.pair = (batch.labels + 1, 2)", "pair[0]"),
        ("self.several = [batch.labels + 1]", "several[0]"),
        ("self.named = {'mean': batch.labels + 1}", "named['mean']"),
        ("self.losses = [*getattr(self, 'losses', ()), 1.0]", "losses[1]"),
        ("self.left = getattr(self, 'left', [1.0] * 9)[1:]", "left[7]"),
        ("self.model.count = getattr(self.model, 'count', 0) + 1", "model.count"),
        ("self.model[1].share = getattr(self.model[1], 'share', 1.0) / 2", "model.1.share"),
    ],
)
def test_changing_members_of_attributes_and_modules_raise(lines: str, named: str, web: Domain, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=rf"its attribute {re.escape(named)} from step to step"):
        with_lines(lines, web, tmp_path)


def test_attributes_set_once_or_written_in_place_are_allowed(web: Domain, tmp_path: Path) -> None:
    kept = "if not hasattr(self, 'pair'):\n    self.pair = ({'sum': 0.0}, batch.labels.clone())"
    private = "self.model._hidden = getattr(self.model, '_hidden', 0) + 1"
    with_lines(f"{kept}\nself.pair[1].add_(1)\n{private}", web, tmp_path)


@pytest.mark.parametrize("name", ["step", "epoch", "generator"])
def test_reading_the_index_of_a_static_step_raises(name: str, web: Domain, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=rf"batch\.{name}"):
        with_lines(f"self.seen = batch.{name}", web, tmp_path)


def test_a_record_contains_captured_steps_only_if_one_was_captured(
    web: Domain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert with_lines("pass", web, tmp_path).steps == ""  # type: ignore[attr-defined]
    monkeypatch.setattr(steps.CapturedStep, "captured", True)
    assert with_lines("pass", web, tmp_path).steps == "recorded"  # type: ignore[attr-defined]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_captures_nothing_with_few_full_batches(web: Domain, tmp_path: Path) -> None:
    file = read_method(ROOT / "methods" / "full_finetune.py")
    values = {**file.defaults("small"), "backbone": "synth-trunk", "epochs": 1}
    said = {}
    for size in (16, 10_000):
        method = load_method(file.path, file.class_name, {**values, "batch_size": size})
        ctx = Context("steps", 0, "last", torch.device("cuda"), tmp_path, lambda what, done, total: None)
        method.fit(open_source([web], 0, 0.23), ctx)
        said[size] = ctx.steps
    assert said == {16: "recorded", 10_000: ""}


DRAWN = "batch.drawn({!r}, lambda generator: torch.rand(1, generator=generator))"


@pytest.mark.parametrize("recorded", [False, True])
def test_a_name_is_drawn_once_a_step(recorded: bool, web: Domain, tmp_path: Path) -> None:
    with_lines("\n".join(map(DRAWN.format, ("one", "another"))), web, tmp_path, recorded)
    with pytest.raises(BenchError, match=r"batch\.drawn\('one', …\) was called twice in one step.*its own name"):
        with_lines("\n".join(map(DRAWN.format, ("one", "another", "one"))), web, tmp_path, recorded)


def test_copies_of_a_batch_draw_for_the_same_step() -> None:
    index, generator = torch.arange(2), torch.Generator()
    batch = steps.Batch(torch.zeros(2), index, index, 0, 0, SampleDraws(index, "t"), generator, torch.zeros(2))
    for copied in (batch.with_images(torch.ones(2)), replace(batch, domains=2)):
        copied.drawn(f"of {copied.domains}", lambda generator: torch.rand(1, generator=generator))
        with pytest.raises(BenchError, match="was called twice in one step"):
            batch.drawn(f"of {copied.domains}", lambda generator: torch.rand(1, generator=generator))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("name", ["cafe", "full_finetune"])
def test_half_precision_on_a_gpu_costs_less_accuracy_than_another_seed(name: str, web: Domain, tmp_path: Path) -> None:
    def accuracies(precision: Precision) -> torch.Tensor:
        found = []
        for seed in range(4):
            method = trained(name, web, tmp_path, True, "cuda", seed, fraction=1.0, precision=precision, epochs=8)
            split = web.split("test")
            with torch.no_grad():
                said = method.predict(split.faces().cuda()).argmax(1).cpu()
            found.append((said == torch.from_numpy(split.labels)).float().mean())
        return torch.stack(found)

    half, full = accuracies("bf16"), accuracies("fp32")
    print(f"{name}: half precision {half.tolist()}, float32 {full.tolist()}")
    # Three standard errors of the difference of two means, and a face of the hundred.
    assert abs(half.mean() - full.mean()) < 3 * ((half.var() + full.var()) / len(half)).sqrt() + 0.01

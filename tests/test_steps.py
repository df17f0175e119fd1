"""A step that is recorded once and repeated comes to what steps taken one by one come to."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import ROOT
from fergen_bench import backbone, steps
from fergen_bench import method as loop
from fergen_bench.domain import Domain, open_source
from fergen_bench.error import BenchError
from fergen_bench.method import Context, GradientMethod, load_method
from fergen_bench.plugin import read_method
from fergen_bench.runner import repeatable_on_gpu

REPEATING = [
    path.stem
    for path in sorted((ROOT / "methods").glob("*.py"))
    if "repeats: ClassVar[bool] = True" in path.read_text()
]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


def trained(
    name: str,
    web: Domain,
    cache: Path,
    recorded: bool,
    device: str,
    seed: int = 0,
    fraction: float = 0.12,
    **changes: Any,
) -> GradientMethod:
    """A method after two epochs, each with a last batch that is not full."""
    file = read_method(ROOT / "methods" / f"{name}.py")
    values = {**file.defaults("small"), "epochs": 2, "batch_size": 16}
    values |= {"trunk": "synth-trunk"} if "trunk" in values else {}
    values |= {"backbone": "synth"} if "backbone" in values else {}
    method: Any = load_method(file.path, file.class_name, {**values, **changes})
    if device == "cuda":
        repeatable_on_gpu()
    torch.manual_seed(seed)
    ctx = Context("steps", seed, "last", torch.device(device), cache, lambda what, done, total: None)
    ctx.records_steps = recorded
    with pytest.MonkeyPatch.context() as patch:
        if device == "cpu":  # a rate in float32 would be another one
            patch.setattr(loop, "_rates_on", lambda optimizer, device: None)
        source = open_source([web], 0, fraction)
        assert len(source.train) % 16 > 1 or fraction == 1.0
        method.fit(source, ctx)
    method.history, method.steps = ctx.history, ctx.steps
    assert isinstance(method, GradientMethod)
    return method


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", REPEATING)
def test_repeating_a_recorded_step_changes_nothing(name: str, device: str, web: Domain, tmp_path: Path) -> None:
    plain, repeated = (trained(name, web, tmp_path, recorded, device) for recorded in (False, True))
    for key, value in plain.model.state_dict().items():
        other = repeated.model.state_dict()[key]
        # On a GPU the rate is a number in one case and a float32 in the other, so the last digits differ.
        assert torch.equal(other, value) if device == "cpu" else torch.allclose(other, value, rtol=1e-3, atol=1e-5), key
    for one, other in zip(plain.history, repeated.history, strict=True):  # type: ignore[attr-defined]
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-6 if device == "cpu" else 1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_long_training_is_compiled(web: Domain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = trained("cafe", web, tmp_path, True, "cuda")
    monkeypatch.setattr(steps, "COMPILED_FROM", 0)
    one, two = (trained("cafe", web, tmp_path, True, "cuda") for _ in range(2))
    assert (plain.steps, one.steps) == ("recorded", "recorded, compiled")  # type: ignore[attr-defined]
    for key, value in one.model.state_dict().items():
        assert torch.equal(two.model.state_dict()[key], value), key
    assert one.history[-1]["loss"] == pytest.approx(plain.history[-1]["loss"], rel=0.02)  # type: ignore[attr-defined]


def test_every_setting_of_cafe_repeats(web: Domain, tmp_path: Path) -> None:
    for changes in (
        {"features": "cached", "gate": "none", "groups": "even"},
        {"diversity_form": "distinct", "head": "channel"},
    ):
        plain, repeated = (trained("cafe", web, tmp_path, recorded, "cpu", **changes) for recorded in (False, True))
        for key, value in plain.model.state_dict().items():
            assert torch.equal(repeated.model.state_dict()[key], value), (changes, key)


@pytest.mark.parametrize("asked", ["step", "epoch", "generator"])
def test_a_method_that_repeats_is_told_of_what_would_be_remembered(asked: str, web: Domain, tmp_path: Path) -> None:
    path = tmp_path / "method.py"
    path.write_text(
        (ROOT / "methods" / "full_finetune.py")
        .read_text()
        .replace("        return functional", f"        self.seen = batch.{asked}\n        return functional", 1)
    )
    file = read_method(path)
    method = load_method(path, file.class_name, {**file.defaults("small"), "backbone": "synth-trunk", "batch_size": 16})
    ctx = Context("steps", 0, "last", torch.device("cpu"), tmp_path, lambda what, done, total: None)
    ctx.records_steps = True
    with pytest.raises(BenchError, match=rf"batch\.{asked}"):
        method.fit(open_source([web], 0, 0.12), ctx)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("name", ["cafe", "full_finetune"])
def test_half_precision_on_a_gpu_costs_less_accuracy_than_another_seed(
    name: str, web: Domain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def accuracies(folder: str) -> torch.Tensor:
        found = []
        for seed in range(4):
            method = trained(name, web, tmp_path / folder, True, "cuda", seed=seed, fraction=1.0, epochs=8)
            split = web.split("test")
            with torch.no_grad():
                said = method.predict(split.faces().cuda()).argmax(1).cpu()
            found.append((said == torch.from_numpy(split.labels)).float().mean())
        return torch.stack(found)

    half = accuracies("half")
    monkeypatch.setattr(Context, "autocast", lambda ctx: contextlib.nullcontext())
    monkeypatch.setattr(backbone, "_half_precision", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(backbone, "_keep_half", lambda body: None)
    full = accuracies("full")
    print(f"{name}: half precision {half.tolist()}, float32 {full.tolist()}")
    assert abs(half.mean() - full.mean()) < 2 * full.std() + 0.01

"""A step that is recorded once and repeated comes to what steps taken one by one come to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import ROOT
from fergen_bench import method as loop
from fergen_bench.domain import Domain, open_source
from fergen_bench.error import BenchError
from fergen_bench.method import Context, GradientMethod, load_method
from fergen_bench.plugin import read_method

REPEATING = [
    path.stem
    for path in sorted((ROOT / "methods").glob("*.py"))
    if "repeats: ClassVar[bool] = True" in path.read_text()
]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


def trained(name: str, web: Domain, cache: Path, recorded: bool, device: str, **changes: Any) -> GradientMethod:
    """A method after two epochs, each with a last batch that is not full."""
    file = read_method(ROOT / "methods" / f"{name}.py")
    values = {**file.defaults("small"), "epochs": 2, "batch_size": 16}
    values |= {"trunk": "synth-trunk"} if "trunk" in values else {}
    values |= {"backbone": "synth"} if "backbone" in values else {}
    method: Any = load_method(file.path, file.class_name, {**values, **changes})
    torch.manual_seed(0)
    ctx = Context("steps", 0, "last", torch.device(device), cache, lambda what, done, total: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Context, "records_steps", recorded)
        if device == "cpu":  # a rate in float32 would be another one
            patch.setattr(loop, "_rates_on", lambda optimizer, device: None)
        source = open_source([web], 0, 0.12)
        assert len(source.train) % 16 > 1
        method.fit(source, ctx)
    method.history = ctx.history
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


def test_every_setting_of_cafe_repeats(web: Domain, tmp_path: Path) -> None:
    for changes in (
        {"features": "cached", "gate": "none", "groups": "even"},
        {"diversity_form": "distinct", "head": "channel"},
    ):
        plain, repeated = (trained("cafe", web, tmp_path, recorded, "cpu", **changes) for recorded in (False, True))
        for key, value in plain.model.state_dict().items():
            assert torch.equal(repeated.model.state_dict()[key], value), (changes, key)


@pytest.mark.parametrize("asked", ["step", "epoch", "generator"])
def test_a_method_that_repeats_is_told_of_what_would_be_remembered(
    asked: str, web: Domain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "method.py"
    path.write_text(
        (ROOT / "methods" / "full_finetune.py")
        .read_text()
        .replace("        return functional", f"        self.seen = batch.{asked}\n        return functional", 1)
    )
    file = read_method(path)
    method = load_method(path, file.class_name, {**file.defaults("small"), "backbone": "synth-trunk", "batch_size": 16})
    ctx = Context("steps", 0, "last", torch.device("cpu"), tmp_path, lambda what, done, total: None)
    monkeypatch.setattr(Context, "records_steps", True)
    with pytest.raises(BenchError, match=rf"batch\.{asked}"):
        method.fit(open_source([web], 0, 0.12), ctx)

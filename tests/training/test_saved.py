"""Checkpoints: saved attributes and refused ones. tests/methods/test_methods.py restores every method."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from running import WEB, execute, make_plan
from safetensors.torch import load_file
from torch import Tensor, nn

from fergen_bench.error import BenchError
from fergen_bench.records import store
from fergen_bench.training.contract import Context, Method
from fergen_bench.training.saved import restore_method, save_method


@dataclass
class Probe(Method):
    width: int = 3

    def fit(self, source: Any, ctx: Context) -> None:
        self.encoder = ctx.backbone("synth")
        self.weight = torch.arange(7.0)
        self.pair = (torch.ones(2), torch.zeros(1, dtype=torch.float64))
        self.many = tuple(torch.tensor([place]) for place in range(12))
        self.chosen, self.nothing = 4, None

    def predict(self, images: Tensor) -> Tensor:
        return self.encoder(images)[:, :7] * self.weight + self.pair[0].sum()


@pytest.fixture
def kept(ctx: Context, tmp_path: Path) -> Path:
    method = Probe()
    method.fit(None, ctx)
    save_method(method, tmp_path / "kept.safetensors")
    return tmp_path / "kept.safetensors"


def test_tensors_numbers_and_frozen_networks_come_back(ctx: Context, kept: Path) -> None:
    method = Probe()
    restore_method(kept, method, ctx)
    assert (method.chosen, method.nothing) == (4, None)
    assert method.encoder.frozen
    assert method.pair[1].dtype == torch.float64
    assert torch.cat(method.many).tolist() == list(range(12)), "a file has its names sorted as text: 10 before 2"
    assert method.predict(torch.zeros(2, 3, 8, 8, dtype=torch.uint8)).shape == (2, 7)


def test_other_parameters_and_damaged_files_are_refused(ctx: Context, kept: Path) -> None:
    with pytest.raises(BenchError, match="this checkpoint belongs to another method, version or parameters; run again"):
        restore_method(kept, Probe(width=4), ctx)
    kept.write_bytes(kept.read_bytes()[:-9])
    with pytest.raises(BenchError, match="this checkpoint cannot be read"):
        restore_method(kept, Probe(), ctx)
    kept.write_bytes(b"\x80\x04K\x01.")  # a pickle
    with pytest.raises(BenchError, match="this checkpoint cannot be read"):
        restore_method(kept, Probe(), ctx)


def test_a_module_of_a_plain_method_is_refused_where_it_is_kept(tmp_path: Path) -> None:
    method = Probe()
    method.layer = nn.Linear(2, 2)  # type: ignore[attr-defined]
    with pytest.raises(BenchError, match=r"Probe\.layer is a module"):
        save_method(method, tmp_path / "kept.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_model_is_kept_where_it_is_asked_for_and_its_run_is_made_for_it(lab: Any) -> None:
    plan = make_plan(lab, protocol=WEB)
    execute(plan, lab, 0)
    path = plan.runs[0].spec.model_path(lab.results / "runs")
    assert not path.exists()
    plan = make_plan(lab, protocol=WEB, keep_models=True)
    assert len(plan.missing) == 1
    execute(plan, lab, 0)
    assert path.is_file()
    assert not make_plan(lab, protocol=WEB, keep_models=True).missing


def test_a_run_made_again_leaves_nothing_of_the_one_before(lab: Any) -> None:
    execute(make_plan(lab, protocol=WEB, keep_models=True), lab, 0)
    method = lab.root / "methods" / "probe.py"
    path = make_plan(lab, protocol=WEB).runs[0].spec.path(lab.results / "runs")
    assert store.RecordFile.open(path).arrays()
    before = load_file(path.with_suffix(".safetensors"))["attribute.noise"]
    text = method.read_text().replace("self.noise = ", "self.noise = 1 + ")
    text = text.replace('ctx.save_array("noise", torch.arange(3))', "pass").replace(
        'return {"colour"', 'return {} and {"colour"'
    )
    method.write_text(text)
    execute(make_plan(lab, protocol=WEB, rerun=True), lab, 0)
    # The checkpoint is saved again without the option, because a factor sweep would need it.
    assert torch.equal(load_file(path.with_suffix(".safetensors"))["attribute.noise"], 1 + before)
    assert store.RecordFile.open(path).arrays() == {}
    assert set(store.RecordFile.open_whole(path).record.files) == {".npz", ".safetensors"}

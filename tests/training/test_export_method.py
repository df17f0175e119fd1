"""An ONNX file computes the scores of its method for images of any size, or export is refused with a reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from fergen_bench import BenchError, Context, Method, Source
from fergen_bench.networks.loading import load_network
from fergen_bench.training import export
from fergen_bench.training.export import export_method

NOISE = np.random.default_rng(0)
SAMPLES = [NOISE.integers(0, 256, (count, *size, 3), np.uint8) for count, size in ((4, (64, 64)), (2, (30, 90)))]


@dataclass
class Whole(Method):
    """The packaged trunk with a random head; `change` alters its logits in a way of each test."""

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        self.network = load_network("synth-trunk", torch.device("cpu")).eval()
        self.head = nn.Linear(self.network.features, 7)
        self.change: Callable[[Tensor, Tensor], Tensor] = lambda logits, images: logits

    def fit(self, source: Source, ctx: Context) -> None: ...

    def predict(self, images: Tensor) -> Tensor:
        return self.change(self.head(self.network(images)), images)


def outputs(path: Path, images: np.ndarray) -> np.ndarray:
    (found,) = onnxruntime.InferenceSession(str(path)).run(None, {"image": images})
    return found


def expected(method: Method, images: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    with torch.no_grad():
        logits = method.predict(torch.from_numpy(images).permute(0, 3, 1, 2))
    return torch.softmax(logits / temperature, 1).numpy()


def test_a_file_computes_what_the_method_computes_at_any_size(tmp_path: Path) -> None:
    method = Whole()
    made = export_method(method, tmp_path / "a" / "m.onnx", SAMPLES, temperature=2.5, metadata={"k": "v"})
    assert made.difference <= 1e-4
    assert made.images == 6
    session = onnxruntime.InferenceSession(str(tmp_path / "a" / "m.onnx"))
    assert session.get_modelmeta().custom_metadata_map == {"k": "v"}
    assert [one.name for one in session.get_outputs()] == ["probabilities"]
    for count, height, width in ((1, 64, 64), (3, 17, 200), (2, 300, 128), (5, 33, 33)):
        images = NOISE.integers(0, 256, (count, height, width, 3), np.uint8)
        found = outputs(tmp_path / "a" / "m.onnx", images)
        np.testing.assert_allclose(found, expected(method, images, 2.5), atol=1e-5)
        np.testing.assert_allclose(found.sum(1), 1.0, atol=1e-6)


def test_a_method_that_learned_from_reversed_colours_gets_them_from_rgb(tmp_path: Path) -> None:
    method = Whole()
    export_method(method, tmp_path / "m.onnx", SAMPLES, bgr=True)
    images = SAMPLES[0]
    reversed_ = expected(method, np.ascontiguousarray(images[..., ::-1]))
    np.testing.assert_allclose(outputs(tmp_path / "m.onnx", images), reversed_, atol=1e-5)
    assert np.abs(reversed_ - expected(method, images)).max() > 1e-3


def test_a_method_that_decides_by_its_images_says_that_it_cannot_be_exported(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    method = Whole()
    method.change = lambda logits, images: logits if images.float().mean() > 100 else -logits
    with pytest.raises(BenchError, match=r"Whole cannot be exported: torch\.onnx\.export failed"):
        export_method(method, tmp_path / "m.onnx", SAMPLES)
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr() == ("", "")


def test_a_method_with_state_outside_of_its_tensors_says_that_it_cannot_be_exported(tmp_path: Path) -> None:
    method, calls = Whole(), list[int]()

    def count(logits: Tensor, images: Tensor) -> Tensor:
        calls.append(1)
        return logits + len(calls)

    method.change = count
    with pytest.raises(BenchError, match="logits of the file differ from those of torch by"):
        export_method(method, tmp_path / "m.onnx", SAMPLES)
    assert not list(tmp_path.iterdir())


def test_weights_that_one_file_cannot_hold_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "MOST_WEIGHTS", 1000)
    with pytest.raises(BenchError, match="one ONNX file can hold 1,000"):
        export_method(Whole(), tmp_path / "m.onnx", SAMPLES)

"""Opening finished models: ONNX files, known networks and callables."""

from __future__ import annotations

import io
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from small_models import IR, OPSET

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.datasets.numbering import ORDERS
from fergen_bench.error import BenchError
from fergen_bench.finished.convention import Convention
from fergen_bench.finished.model import check_classes, open_model, reopen

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 9, 9, 3), np.uint8)


def linear(
    path: Path, classes: int = 7, batch: object = "n", inputs: int = 1, outputs: int = 1, **about: object
) -> Path:
    """Write a linear model of 3 x 4 x 4 pixels."""
    weights = np.random.default_rng(1).normal(size=(48, classes)).astype(np.float32)
    nodes = [helper.make_node("Flatten", ["x0"], ["f"]), helper.make_node("Gemm", ["f", "w"], ["y0"])]
    nodes += [helper.make_node("Identity", ["y0"], [f"y{n}"]) for n in range(1, outputs)]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(f"x{n}", TensorProto.FLOAT, [batch, 3, 4, 4]) for n in range(inputs)],
        [helper.make_tensor_value_info(f"y{n}", TensorProto.FLOAT, [batch, classes]) for n in range(outputs)],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    for key, value in about.items():
        model.metadata_props.add(key=key, value=str(value))
    onnx.save(model, str(path))
    return path


def test_an_onnx_file_computes_what_numpy_computes(tmp_path: Path) -> None:
    model = open_model(linear(tmp_path / "m.onnx"))
    assert (model.name, model.outputs, model.batch) == ("m", 7, None)
    assert (model.shape.height, model.shape.channels, model.shape.layout) == (4, 3, "nchw")
    batch = Convention(size=(4, 4)).prepare(IMAGES)
    weights = np.random.default_rng(1).normal(size=(48, 7)).astype(np.float32)
    assert np.allclose(model(batch), batch.reshape(5, 48) @ weights, atol=1e-4)


def test_a_batch_of_fixed_size_is_filled_up(tmp_path: Path) -> None:
    batch = Convention(size=(4, 4)).prepare(IMAGES)
    free, fixed = open_model(linear(tmp_path / "m.onnx")), open_model(linear(tmp_path / "n.onnx", batch=2))
    assert fixed.batch == 2
    assert np.allclose(fixed(batch), free(batch), atol=1e-5)


def test_metadata_of_the_file_are_read(tmp_path: Path) -> None:
    path = linear(tmp_path / "m.onnx", classes_="x", names="['a', 'b']")
    assert open_model(path).stated == {}
    path = linear(
        tmp_path / "m.onnx", classes=8, names="['neutral','happy','sad','surprise','fear','disgust','anger','contempt']"
    )
    assert open_model(path).stated["classes"][-1] == "contempt"


def test_the_digest_is_that_of_the_content(tmp_path: Path) -> None:
    one, same, other = (linear(tmp_path / f"{name}.onnx", classes=n) for name, n in (("a", 7), ("b", 7), ("c", 8)))
    assert open_model(one).digest == open_model(same).digest != open_model(other).digest
    assert reopen(str(one), open_model(one).digest).outputs == 7
    with pytest.raises(BenchError, match="not the file that was evaluated"):
        reopen(str(other), open_model(one).digest)


def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="2 inputs"):
        open_model(linear(tmp_path / "m.onnx", inputs=2))
    path = linear(tmp_path / "n.onnx", outputs=2)
    with pytest.raises(BenchError, match="2 outputs; name the one with the scores: --output y0"):
        open_model(path)
    assert open_model(path, output="y1").outputs == 7
    with pytest.raises(BenchError, match="no output 'z'; the model has y0 and y1"):
        open_model(path, output="z")


def test_a_wrong_size_is_one_sentence(tmp_path: Path) -> None:
    model = open_model(linear(tmp_path / "m.onnx"))
    with pytest.raises(BenchError, match="cannot compute a batch of the shape"):
        model(Convention(size=(5, 4)).prepare(IMAGES))


def test_the_number_of_classes_must_be_that_of_the_outputs(tmp_path: Path) -> None:
    model = open_model(linear(tmp_path / "m.onnx", classes=8))
    with pytest.raises(BenchError, match="8 outputs, and 7 classes are stated"):
        check_classes(model, EXPRESSIONS, 8)


def test_an_order_without_other_classes_is_offered_where_it_fits(tmp_path: Path) -> None:
    model = open_model(linear(tmp_path / "m.onnx"))
    with pytest.raises(BenchError, match=r"7 outputs, and 8 classes are stated .*: --classes affectnet-7$"):
        check_classes(model, ORDERS["affectnet"], 7)
    with pytest.raises(BenchError, match=r"--classes neutral,happiness,surprise,sadness,anger,disgust,fear$"):
        check_classes(model, ORDERS["ferplus"], 7)


def test_scores_must_be_finite_and_one_row_per_image() -> None:
    nan = open_model(lambda images: np.full((len(images), 7), np.nan))
    with pytest.raises(BenchError, match="NaN or infinite scores"):
        nan(IMAGES)
    with pytest.raises(BenchError, match=r"shape \(7,\)"):
        open_model(lambda images: np.zeros(7))(IMAGES)
    with pytest.raises(BenchError, match="shape"):
        open_model(lambda images: np.zeros((3, 7)))(IMAGES)
    with pytest.raises(BenchError, match="int64"):
        open_model(lambda images: np.zeros((5, 7), int))(IMAGES)


def test_a_callable_gets_the_pixels_unchanged() -> None:
    def mine(images: np.ndarray) -> np.ndarray:
        assert images.dtype == np.uint8
        return images.mean((1, 2))

    model = open_model(mine)
    assert (model.kind, model.name) == ("callable", "mine")
    convention = Convention(**model.stated)
    assert np.allclose(model(convention.prepare(IMAGES)), IMAGES.mean((1, 2)))


def archive(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for name, content in members.items():
            file.writestr(name.replace("__", "/"), content)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("m.pt", archive(m__code__x=b"1"), "TorchScript.*torch.onnx.export"),
        ("m.pt", archive(m__data=b"1"), "weights without a network.*timm:NAME"),
        ("m.pt2", archive(m__data=b"1"), "exported by torch.*torch.onnx.export"),
        ("m.pkl", pickle.dumps({"a": 1}), "pickle can run code"),
        ("m.h5", b"x", "tf2onnx"),
        ("m.tflite", b"x", "tf2onnx"),
        ("m.safetensors", b"x", "timm:NAME"),
        ("m.jpg", b"x", "the format is unknown"),
        ("m.onnx", b"x", "not an ONNX file"),
        ("m.onnx", archive(m__code__x=b"1")[-40:], "not an ONNX file"),
        ("m.onnx", b"", "no operator"),
    ],
)
def test_other_formats_are_refused_with_a_way_to_convert_them(
    name: str, content: bytes, words: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BenchError, match=words):
        open_model(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="does not exist"):
        open_model(tmp_path / "m.onnx")
    with pytest.raises(BenchError, match="is not a file"):
        open_model(tmp_path)


def test_a_network_of_timm_with_its_classifier(tmp_path: Path) -> None:
    import timm

    torch.manual_seed(0)
    own = timm.create_model("resnet10t", pretrained=False, num_classes=8).eval()
    torch.save(
        {"state_dict": {f"module.{name}": value for name, value in own.state_dict().items()}}, tmp_path / "w.pth"
    )
    model = open_model(f"timm:resnet10t/{tmp_path}/w.pth")
    assert model.stated["size"] == (176, 176)
    convention = Convention(**model.stated)
    batch = convention.prepare(IMAGES)
    with torch.no_grad():
        expected = own(torch.from_numpy(batch)).numpy()
    assert np.allclose(model(batch), expected, atol=1e-5)
    assert (model.name, model.outputs) == ("resnet10t-w", 8)
    smaller = model.at_size((64, 48))
    smaller.check({"size": (64, 48)})
    assert smaller.fitting(smaller.stated).size == (64, 48)
    small = replace(convention, size=(64, 48)).prepare(IMAGES)
    with torch.no_grad():
        assert np.allclose(smaller(small), own(torch.from_numpy(small)).numpy(), atol=1e-5)
    del own.fc
    torch.save(own.state_dict(), tmp_path / "no-head.pth")
    with pytest.raises(BenchError, match="no classifier of 2 to 64 classes"):
        open_model(f"timm:resnet10t/{tmp_path}/no-head.pth")


def test_a_size_that_a_network_cannot_compute_is_one_sentence(tmp_path: Path) -> None:
    import timm

    own = timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=7)
    torch.save(own.state_dict(), tmp_path / "w.pth")
    model = open_model(f"timm:vit_tiny_patch16_224/{tmp_path}/w.pth")
    side = model.shape.height
    with pytest.raises(BenchError, match=rf"size: 64 x 64 is stated.*cannot compute.*leave --size out for {side} x"):
        model.at_size((64, 64))


def test_a_tower_of_open_clip_with_a_linear_head(tmp_path: Path) -> None:
    import open_clip
    from safetensors.torch import save_file

    torch.manual_seed(0)
    tower = open_clip.create_model("RN50-quickgelu", pretrained=None).visual.eval()
    head = torch.nn.Linear(1024, 7)
    weights = {f"visual.{n}": v for n, v in tower.state_dict().items()} | {
        f"head.{n}": v for n, v in head.state_dict().items()
    }
    save_file({name: value.contiguous().clone() for name, value in weights.items()}, tmp_path / "w.safetensors")
    model = open_model(f"open_clip:RN50-quickgelu/{tmp_path}/w.safetensors")
    batch = Convention(**model.stated).prepare(IMAGES[:1])
    with torch.no_grad():
        assert np.allclose(model(batch), head(tower(torch.from_numpy(batch))).numpy(), atol=1e-4)

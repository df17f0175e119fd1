"""The convention of a finished model."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.error import BenchError
from fergen_bench.finished.convention import (
    CLASSES_KEY,
    CONVENTION_KEY,
    UNUSED,
    Convention,
    checked,
    output_kind,
    parse_classes,
    stated_by_metadata,
)

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 10, 12, 3), np.uint8)


def test_pixels_are_those_of_the_convention() -> None:
    plain = Convention().prepare(IMAGES)
    assert plain.shape == (3, 3, 10, 12)
    assert plain.dtype == np.float32
    assert np.allclose(plain, IMAGES.transpose(0, 3, 1, 2) / 255)
    assert np.array_equal(Convention(colour="bgr").prepare(IMAGES), plain[:, ::-1])
    assert np.array_equal(Convention(layout="nhwc").prepare(IMAGES), plain.transpose(0, 2, 3, 1))
    assert np.allclose(
        Convention(range="0-255", mean=(1.0, 2.0, 3.0), deviation=(2.0,)).prepare(IMAGES)[0, 2, 0, 0],
        (IMAGES[0, 0, 0, 2] - 3.0) / 2.0,
    )
    raw = Convention(range="uint8", layout="nhwc").prepare(IMAGES)
    assert raw.dtype == np.uint8
    assert np.array_equal(raw, IMAGES)


def test_grey_is_that_of_pil() -> None:
    grey = Convention(colour="grey", channels=1, range="uint8", layout="nhwc").prepare(IMAGES)
    expected = np.asarray(Image.fromarray(IMAGES[1]).convert("L"))
    assert np.array_equal(grey[1, ..., 0], expected)
    assert Convention(colour="grey").prepare(IMAGES).shape == (3, 3, 10, 12)


def test_resizing_is_that_of_pil() -> None:
    small = Convention(size=(4, 5), filter="bicubic", range="uint8", layout="nhwc").prepare(IMAGES)
    expected = Image.fromarray(IMAGES[2]).resize((5, 4), Image.Resampling.BICUBIC)
    assert np.array_equal(small[2], np.asarray(expected))


def test_a_margin_repeats_the_edge_and_a_negative_one_cuts() -> None:
    convention = Convention(range="uint8", layout="nhwc", margin=0.1)
    wide = convention.prepare(IMAGES)
    assert wide.shape == (3, 12, 14, 3)
    assert np.array_equal(wide[:, 0, 1:-1], IMAGES[:, 0])
    assert np.array_equal(Convention(range="uint8", layout="nhwc", margin=-0.1).prepare(IMAGES), IMAGES[:, 1:-1, 1:-1])


def test_per_image_normalisation_has_mean_zero_and_deviation_one() -> None:
    values = Convention(range="per-image").prepare(IMAGES)
    assert np.allclose(values.mean((1, 2, 3)), 0, atol=1e-5)
    assert np.allclose(values.std((1, 2, 3)), 1, atol=1e-4)
    black = np.zeros((1, 4, 4, 3), np.uint8)
    assert np.isfinite(Convention(range="per-image").prepare(black)).all()


def test_an_eighth_class_is_dropped_and_the_others_get_its_share() -> None:
    classes = parse_classes("neutral,happy,sad,surprise,fear,disgust,anger,contempt", "x")
    convention = Convention(classes=classes)
    assert convention.dropped == ("contempt",)
    shares = np.array([[0.1, 0.2, 0.05, 0.05, 0.05, 0.05, 0.1, 0.4]])
    logits = convention.logits(shares)
    found = np.exp(logits - np.log(np.exp(logits).sum()))[0]
    by_name = dict(zip(EXPRESSIONS, found, strict=True))
    assert by_name["happiness"] == pytest.approx(0.2 / 0.6, abs=1e-5)
    assert found.sum() == pytest.approx(1)
    assert convention.logits(shares).argmax(1) == EXPRESSIONS.index("happiness")


def test_an_expression_that_a_model_lacks_is_never_predicted() -> None:
    convention = Convention(classes=("happiness", "sadness", UNUSED))
    assert convention.lacking == ("surprise", "fear", "disgust", "anger", "neutral")
    logits = convention.logits(np.array([[-3.0, -9.0, 5.0]]))
    assert logits.argmax(1) == EXPRESSIONS.index("happiness")
    assert np.exp(logits - logits.max())[0, 0] < 1e-12


def test_outputs_that_sum_to_one_are_probabilities() -> None:
    assert output_kind(np.array([[0.25, 0.75]])) == "probabilities"
    assert output_kind(np.array([[-0.25, 1.25]])) == "logits"
    assert output_kind(np.array([[2.0, 1.0]])) == "logits"


def test_a_convention_survives_json_and_metadata() -> None:
    convention = Convention(("anger", "neutral"), "grey", 1, (64, 64), "area", "0-255", (1.0,), (2.0,), -0.1, "nhwc")
    assert Convention.from_json(json.loads(json.dumps(convention.to_json())), "x") == convention
    stated = stated_by_metadata(convention.metadata(), 2, "m.onnx")
    assert Convention(**stated) == convention
    assert set(convention.metadata()) == {CLASSES_KEY, CONVENTION_KEY}


@pytest.mark.parametrize(
    ("metadata", "first"),
    [
        ({"classes": "anger,disgust,fear,happy,sad,surprise,neutral"}, "anger"),
        (
            {"names": "{0: 'neutral', 1: 'happy', 2: 'sad', 3: 'surprised', 4: 'afraid', 5: 'disgusted', 6: 'angry'}"},
            "neutral",
        ),
        (
            {
                "id2label": '{"6": "neutral", "0": "sad", "1": "happy", "2": "surprised", '
                '"3": "fear", "4": "disgust", "5": "angry"}'
            },
            "sadness",
        ),
    ],
)
def test_class_names_of_other_programs_are_read(metadata: dict[str, str], first: str) -> None:
    assert stated_by_metadata(metadata, 7, "m")["classes"][0] == first
    assert stated_by_metadata(metadata, 8, "m") == {}


@pytest.mark.parametrize("text", ["__import__('os').system('x')", "[" * 5000, "cat,dog,a,b,c,d,e", '{"a": "b"}', "7"])
def test_other_metadata_are_ignored(text: str) -> None:
    assert stated_by_metadata({"names": text}, 7, "m") == {}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"color": "rgb"}, "did you mean colour"),
        ({"colour": "cmyk"}, "not one of rgb, bgr and grey"),
        ({"size": [0, 3]}, "is not a side in pixels"),
        ({"size": 100_000}, "is not a side in pixels"),
        ({"deviation": 0}, "must be above 0"),
        ({"mean": float("nan")}, "is not a number"),
        ({"mean": [1.0, 2.0]}, "one number, or one for each channel"),
        ({"margin": -0.5}, "is not a share"),
        ({"channels": 4}, "is not 1 or 3"),
        ({"classes": "happy,happiness,sad"}, "happiness occurs twice"),
        ({"classes": "cat,dog"}, "fewer than two"),
        ({"classes": [1, 2]}, "not the names of classes"),
        ({"classes": 5}, "not the names of classes"),
    ],
)
def test_faults_name_the_field(content: dict[str, object], words: str) -> None:
    with pytest.raises(BenchError, match=words):
        checked(content, "m.onnx")


def test_orders_have_names() -> None:
    assert parse_classes("FER2013", "x") == ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
    assert parse_classes(["-", "happy", "sad"], "x") == (UNUSED, "happiness", "sadness")


@pytest.mark.parametrize(
    ("last", "meant"), [("surpris", "surprise"), ("suprised", "surprise"), ("anegr", None), ("contempt", None)]
)
def test_a_class_spelt_like_an_expression_that_lacks_a_class_is_refused(last: str, meant: str | None) -> None:
    names = f"neutral,anger,disgust,fear,happiness,sadness,{last}"
    if meant is None:
        assert parse_classes(names, "x")[-1] == last
        return
    with pytest.raises(BenchError, match=rf"x: '{last}' is not an expression; did you mean {meant}\?"):
        parse_classes(names, "x")


@pytest.mark.parametrize(
    ("convention", "words"),
    [
        (Convention(), "0-1, no mean is subtracted, nchw"),
        (Convention(range="0-255"), "0-255, no mean is subtracted, nchw"),
        (Convention(mean=(0.5,)), "0-1, mean 0.5, nchw"),
        (Convention(deviation=(0.5,)), "0-1, deviation 0.5, nchw"),
        (Convention(range="per-image"), "per-image, nchw"),
        (Convention(range="uint8"), "uint8, nchw"),
    ],
)
def test_words_for_the_normalisation(convention: Convention, words: str) -> None:
    assert str(convention) == f"rgb 3 x any size, bilinear, {words}"


def test_an_order_of_seven_classes_has_a_name() -> None:
    assert parse_classes("affectnet-7", "--classes") == parse_classes("affectnet", "--classes")[:7]

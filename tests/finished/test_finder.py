"""The finder of conventions: what it finds unaided, and the wrong uses of a correct model that it names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_models import CONTEMPT, COUNTED_FROM_1, SIDE, write_model

from fergen_bench.data.domain import Domain
from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.datasets.numbering import ORDERS
from fergen_bench.error import BenchError
from fergen_bench.finished.convention import Convention
from fergen_bench.finished.finder import find_convention
from fergen_bench.finished.model import open_model
from fergen_bench.finished.trial import NORMALISATIONS

PLAIN = Convention(size=(SIDE, SIDE))
USUAL = ("0 to 1", "-1 to 1", "0 to 255", "ImageNet", "-128 to 127")


def conventions(count: int, seed: int) -> Iterator[Convention]:
    """Yield conventions that a model may have, at random."""
    random = np.random.default_rng(seed)
    orders = [*(order for order in ORDERS.values()), COUNTED_FROM_1]
    for _ in range(count):
        span, mean, deviation = NORMALISATIONS[USUAL[random.integers(len(USUAL))]]
        yield replace(
            PLAIN,
            classes=orders[random.integers(len(orders))],
            colour=("rgb", "bgr")[random.integers(2)],
            layout=("nchw", "nhwc")[random.integers(2)],
            range=span,
            mean=mean,
            deviation=deviation,
        )


def stated(convention: Convention) -> dict[str, Any]:
    """Return what a user states of a convention."""
    return {name: getattr(convention, name) for name in ("classes", "colour", "layout", "range", "mean", "deviation")}


def wrong_uses(right: Convention, seed: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield a wrong use of a model for each kind of mistake that fits it, with its name."""
    random = np.random.default_rng(seed)
    own = stated(right)
    permuted = list(right.classes)
    while tuple(permuted) == right.classes:
        random.shuffle(permuted)
    yield "classes", {**own, "classes": tuple(permuted)}
    yield "colour", {**own, "colour": "bgr" if right.colour == "rgb" else "rgb"}
    others = [
        NORMALISATIONS[name] for name in USUAL if NORMALISATIONS[name] != (right.range, right.mean, right.deviation)
    ]
    span, mean, deviation = others[random.integers(len(others))]
    yield "normalisation", {**own, "range": span, "mean": mean, "deviation": deviation}
    yield "colour", {**own, "colour": "grey"}
    yield "layout", {**own, "layout": "nhwc" if right.layout == "nchw" else "nchw"}
    seven = [name for name in right.classes if name in EXPRESSIONS]
    if len(right.classes) == 7:
        yield "classes", {**own, "classes": (*seven, "contempt")}
        yield "classes", {**own, "classes": (*seven[1:], seven[0])}  # numbers from 1 taken for numbers from 0
    else:
        yield "classes", {**own, "classes": tuple(seven)}


def named(path: Path, use: Mapping[str, Any], domain: Domain) -> set[str]:
    """Return the parts of a convention that the finder, or an error, names as wrong."""
    model = open_model(path)
    try:
        model.check(use)
        return {fault.part for fault in find_convention(model, use, domain).faults}
    except BenchError as error:
        return {part for part in ("layout", "classes") if part in str(error)}


def count(
    models: int, wrong: int, right: int, weights: Any, domain: Domain, folder: Path
) -> tuple[int, int, Counter[str]]:
    """Return how many wrong uses are named, how many right ones are, and the kinds of those that are missed."""
    found, false, missed, tried = 0, 0, Counter[str](), 0
    for seed, convention in enumerate(conventions(models, 7)):
        path = write_model(folder / f"{seed}.onnx", weights, convention)
        for kind, use in wrong_uses(convention, seed):
            if tried < wrong:
                tried += 1
                hit = kind in named(path, use, domain)
                found += hit
                missed += Counter([] if hit else [kind])
    assert tried == wrong
    for seed, convention in enumerate(conventions(right, 11)):
        path = write_model(folder / f"right-{seed}.onnx", weights, convention)
        false += bool(named(path, stated(convention), domain))
    print(f"{found} of {wrong} wrong uses named, {false} of {right} right ones; missed: {dict(missed)}")
    return found, false, missed


def test_wrong_uses_are_named_and_right_ones_are_not(weights: Any, web: Domain, tmp_path: Path) -> None:
    found, false, missed = count(2, 12, 6, weights, web, tmp_path)
    assert (found, false) == (12, 0), missed


@pytest.mark.slow
def test_a_hundred_wrong_uses_and_a_hundred_right_ones(weights: Any, web: Domain, tmp_path: Path) -> None:
    found, false, missed = count(17, 100, 100, weights, web, tmp_path)
    assert found >= 95, missed
    assert false <= 1


def test_nothing_is_stated(weights: Any, web: Domain, tmp_path: Path) -> None:
    right = replace(
        PLAIN, classes=CONTEMPT, colour="bgr", layout="nhwc", range="0-255", mean=(127.5,), deviation=(1.0,)
    )
    model = open_model(write_model(tmp_path / "m.onnx", weights, right))
    found = find_convention(model, {}, web)
    assert found.fits
    assert not found.faults
    assert found.best.convention == right
    sentences = " ".join(found.sentences)
    assert "300 training images of web: bgr 3 x 32 x 32, bilinear, 0-255, mean 127.5, nhwc" in sentences


def test_a_model_that_states_no_shape(weights: Any, web: Domain, tmp_path: Path) -> None:
    model = open_model(write_model(tmp_path / "m.onnx", weights, PLAIN, free_axes=True))
    assert model.shape.layout is None
    found = find_convention(model, {"size": (SIDE, SIDE)}, web)
    assert (found.best.convention.layout, found.best.convention.classes) == ("nchw", EXPRESSIONS)


def test_a_single_grey_channel(weights: Any, web: Domain, tmp_path: Path) -> None:
    right = replace(PLAIN, channels=1, colour="grey", mean=(0.5,), deviation=(0.5,))
    found = find_convention(open_model(write_model(tmp_path / "m.onnx", weights, right)), {}, web)
    assert (found.best.convention.colour, found.best.convention.channels) == ("grey", 1)
    assert found.best.convention.mean == (0.5,)


def test_no_convention_fits_noise(weights: Any, web: Domain, tmp_path: Path) -> None:
    noise = {
        name: np.random.default_rng(0).normal(size=value.shape).astype(np.float32) for name, value in weights.items()
    }
    noise["5.weight"][:] = 0
    found = find_convention(open_model(write_model(tmp_path / "m.onnx", noise, PLAIN)), {}, web)
    assert not found.fits
    assert next(found.sentences).startswith("No usual convention fits on 300 training images of web")


def test_only_training_images_are_read(
    weights: Any, web: Domain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Domain.split
    asked = []
    monkeypatch.setattr(Domain, "split", lambda self, part: (asked.append(part), whole(self, part))[1])
    find_convention(open_model(write_model(tmp_path / "m.onnx", weights, PLAIN)), {}, web)
    assert set(asked) == {"train"}

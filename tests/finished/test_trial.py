"""When a convention fits significantly better than another."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fergen_bench.finished.convention import Convention
from fergen_bench.finished.trial import NORMALISATIONS, Trial, described, differs, explained

CLASSES = Convention().classes
OTHER = replace(Convention(), classes=CLASSES[::-1])


def trial(convention: Convention, gain: float, right: int, cost: float = 0.0) -> Trial:
    """Return a trial on 400 images, of which the first are predicted right and have a larger likelihood."""
    is_right = np.arange(400) < right
    return Trial(convention, np.where(is_right, gain, 0.0) - 2.0, cost, is_right)


def test_a_better_one_explains_more_and_predicts_more() -> None:
    weak = trial(Convention(), 1.0, 200)
    assert trial(OTHER, 1.0, 300).beats(weak)
    assert not weak.beats(trial(OTHER, 1.0, 300))
    assert not trial(OTHER, 2.0, 200).beats(weak)  # more certain, but not more often right
    assert not trial(OTHER, 1.0, 300, cost=1000.0).beats(weak)  # chosen from too many orders


def test_other_pixels_must_gain_two_points_and_another_order_need_not() -> None:
    base = trial(Convention(), 3.0, 200)
    for right, same_order in ((206, False), (212, True)):
        assert trial(replace(Convention(), colour="bgr"), 3.0, right).beats(base) is same_order
    assert trial(OTHER, 3.0, 206).beats(base) is False  # six more are within two standard errors
    assert trial(OTHER, 3.0, 220).beats(base)


def test_outputs_of_any_scale_explain_alike() -> None:
    labels = np.arange(70) % 7
    outputs = np.random.default_rng(0).normal(size=(70, 7)) + 2 * np.eye(7)[labels]
    small, large = (explained(Convention(output="logits"), 0.0, scale * outputs, labels) for scale in (1e-3, 1e3))
    np.testing.assert_allclose(small.likelihoods, large.likelihoods, atol=1e-3)
    assert small.accuracy == large.accuracy > 0.5


def test_parts_in_words() -> None:
    span, mean, deviation = NORMALISATIONS["CLIP"]
    clip = replace(Convention(), range=span, mean=mean, deviation=deviation)
    assert described("normalisation", clip) == "CLIP"
    assert (
        described("normalisation", replace(clip, mean=(0.25,)))
        == "0-1, mean 0.25, deviation 0.268630 0.261303 0.275777"
    )
    assert described("size", replace(clip, size=(48, 64))) == "48 x 64"
    assert differs(clip, Convention(), ("mean",))
    assert not differs(clip, Convention(), ("colour", "size"))

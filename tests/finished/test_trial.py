"""When a convention fits significantly better than another."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fergen_bench.finished.convention import Convention
from fergen_bench.finished.trial import NORMALISATIONS, Trial, described, differs, explained

CLASSES = Convention().classes
OTHER = replace(Convention(), classes=CLASSES[::-1])


def trial(convention: Convention, gain: float, right: int, cost: float = 0.0) -> Trial:
    """Return a trial on 400 images: the likelihood of each is `gain` above -2, and the first are predicted right."""
    return Trial(convention, np.full(400, gain - 2.0), cost, np.arange(400) < right)


def test_a_better_one_explains_more_and_predicts_more() -> None:
    weak = trial(Convention(), 0.0, 200)
    assert trial(OTHER, 0.1, 300).beats(weak)
    assert not weak.beats(trial(OTHER, 0.1, 300))
    assert not trial(OTHER, 0.1, 200).beats(weak)  # more certain, but not more often right
    assert not trial(OTHER, 0.1, 300, cost=36.0).beats(weak)  # 40 nats more, chosen from many orders


def test_other_pixels_must_gain_two_points_and_another_order_need_not() -> None:
    base, pixels = trial(Convention(), 0.0, 200), replace(Convention(), colour="bgr")
    assert [trial(pixels, 0.1, right).beats(base) for right in (206, 212)] == [False, True]
    assert [trial(OTHER, 0.1, right).beats(base) for right in (203, 206)] == [False, True]  # two standard errors


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
        described("normalisation", replace(clip, mean=(0.25,))) == "0-1, mean 0.25, deviation 0.26863 0.261303 0.275777"
    )
    assert described("size", replace(clip, size=(48, 64))) == "48 x 64"
    assert differs(clip, Convention(), ("mean",))
    assert not differs(clip, Convention(), ("colour", "size"))

"""The five domains have their labels, votes and appearance."""

from __future__ import annotations

import numpy as np
import pytest
from test_synth_render import faces

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.synth import DOMAINS, worlds
from fergen_bench.synth.scene import ACTION_UNITS
from fergen_bench.synth.worlds import WORLDS, compose


def test_test_labels_are_true_and_train_labels_have_the_noise_of_their_world() -> None:
    for name, world in WORLDS.items():
        test = compose(name, "test", np.arange(world.test)).columns
        np.testing.assert_array_equal(test["label"], test["expression"])
        train = compose(name, "train", np.arange(world.train)).columns
        wrong = (train["label"] != train["expression"]).mean()
        assert wrong == pytest.approx(world.label_noise or 0.025, abs=0.015), name
        share = np.bincount(train["expression"], minlength=7) / world.train
        np.testing.assert_allclose(share, np.array(world.prior) / sum(world.prior), atol=0.025)
        assert share.max() / share.min() > 2 or name == "wild"


def test_each_image_has_ten_votes_and_the_label_has_the_most() -> None:
    columns = compose("grey48", "train", np.arange(500)).columns
    votes = np.stack([columns[f"votes_{name}"] for name in EXPRESSIONS], 1)
    assert (votes.sum(1) == worlds.VOTERS).all()
    assert (votes[np.arange(500), columns["label"]] == votes.max(1)).all()


def test_domains_differ_like_the_datasets_they_imitate() -> None:
    shown = {name: faces(name, range(64)).astype(float) for name in DOMAINS}
    brightness = {name: images.mean() for name, images in shown.items()}
    assert brightness["film"] < 0.7 * min(brightness[name] for name in DOMAINS if name != "film")
    colour = {name: (images.max(3) - images.min(3)).mean() for name, images in shown.items()}
    assert colour["grey48"] < 1 < colour["scrape"] < colour["web"]


@pytest.mark.slow
def test_labels_follow_from_action_units_in_every_pair_of_domains() -> None:
    """No concept shift: a classifier of true action units is at least 94 % accurate from any domain to any other."""
    from sklearn.neural_network import MLPClassifier

    def table(name: str, split: str) -> tuple[np.ndarray, np.ndarray]:
        columns = compose(name, split, np.arange(getattr(WORLDS[name], split))).columns
        return np.stack([columns[f"au{unit}"] for unit in ACTION_UNITS], 1), columns["expression"]

    tests = {name: table(name, "test") for name in DOMAINS}
    for name in DOMAINS:
        oracle = MLPClassifier((64,), alpha=1e-3, learning_rate_init=5e-3, max_iter=60, random_state=0)
        oracle.fit(*table(name, "train"))
        scores = {target: oracle.score(*test) for target, test in tests.items()}
        assert min(scores.values()) >= 0.94, (name, scores)


def test_a_single_annotator_errs_as_those_who_label_the_training_images() -> None:
    shares = {name: worlds.single_annotator(name, 1000) for name in DOMAINS}
    assert shares == pytest.approx(
        {"web": 0.97, "grey48": 0.8842, "wild": 0.88, "film": 0.94, "scrape": 0.90}, abs=1e-4
    )
    # A vote for a clear, pure expression: 0.93 of all votes, and a seventh of the 0.07 that are given at random.
    columns = {
        "expression": np.array([0, 3]),
        "second_expression": np.array([1, 6]),
        "ambiguity": np.array([0.0, 0.5]),
        "intensity": np.array([1.0, 1.0]),
    }
    chances = worlds._chances(columns)
    np.testing.assert_allclose(chances.sum(1), 1.0)
    assert chances[0, 0] == pytest.approx(0.94)
    assert chances[1, 3] == pytest.approx(0.93 * (1 - 0.45) + 0.01)
    train = compose("grey48", "train", np.arange(3000)).columns
    votes = np.stack([train[f"votes_{name}"] for name in EXPRESSIONS], 1)
    given = votes[np.arange(3000), train["expression"]].mean() / worlds.VOTERS
    assert given == pytest.approx(worlds._chances(train)[np.arange(3000), train["expression"]].mean(), abs=0.01)

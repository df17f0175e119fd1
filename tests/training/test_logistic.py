"""Test the sweep of strengths, soft labels and weights."""

from __future__ import annotations

import pytest
import torch
from sklearn.linear_model import LogisticRegression

from fergen_bench.error import BenchError
from fergen_bench.training import logistic


def test_the_sweep_ends_within_an_eighth_of_a_decade_of_the_best() -> None:
    for peak in (-5.9, -1.3, 0.0, 2.71, 6.0):
        scored = []

        def score(exponent: float, peak: float = peak, scored: list[float] = scored) -> logistic.Score:
            scored.append(exponent)
            return -abs(exponent - peak), 0.0

        assert abs(logistic.search_exponent(score) - peak) <= 0.125
        assert len(scored) == len(set(scored)) <= 15


def test_between_equally_accurate_strengths_the_loss_decides() -> None:
    assert logistic.search_exponent(lambda exponent: (0.5, -((exponent - 1.25) ** 2))) == 1.25
    assert logistic.search_exponent(lambda exponent: (float(exponent < 0), -((exponent - 1.25) ** 2))) < 0


def test_a_small_validation_set_does_not_lead_to_one_expression_for_every_image() -> None:
    """Validate on three images, two of the most common class, which any strength predicts correctly."""
    draws = torch.Generator().manual_seed(0)
    labels = torch.tensor([0] * 12 + [1] * 6 + [2] * 6)
    features = 3.0 * torch.eye(3)[labels] + torch.randn(24, 3, generator=draws)
    held, held_labels = 3.0 * torch.eye(3)[[0, 0, 0]], torch.tensor([0, 0, 1])
    strength = logistic.best_strength(features, labels, held, held_labels, 3)
    weight, bias = logistic.solve(features.double(), labels, 3, strength)
    predicted = (features.double() @ weight.T + bias).argmax(1)
    assert predicted.unique().tolist() == [0, 1, 2]


def test_the_loss_chooses_the_strength_where_accuracy_chooses_another() -> None:
    draws = torch.Generator().manual_seed(1)
    labels = torch.arange(60) % 3
    features = torch.eye(3)[labels] + 1.5 * torch.randn(60, 3, generator=draws)
    held_labels = torch.arange(30) % 3
    held = torch.eye(3)[held_labels] + 1.5 * torch.randn(30, 3, generator=draws)
    chosen = {by: logistic.best_strength(features, labels, held, held_labels, 3, by=by) for by in ("accuracy", "loss")}

    def scored(strength: float) -> tuple[float, float]:
        weight, bias = logistic.solve(features.double(), labels, 3, strength)
        accuracy, negative_loss = logistic.held_out_score((weight, bias), held.double(), held_labels)
        return accuracy, -negative_loss

    losses = [scored(10.0**exponent)[1] for exponent in torch.arange(-6, 6.01, 0.125).tolist()]
    assert scored(chosen["loss"])[1] == pytest.approx(min(losses), abs=1e-4)
    assert scored(chosen["accuracy"])[1] > min(losses) + 1e-3
    assert scored(chosen["accuracy"])[0] >= scored(chosen["loss"])[0]


def test_the_score_is_accuracy_and_then_negative_cross_entropy() -> None:
    weight, bias = torch.zeros(4, 2), torch.tensor([1.0, 0.0, 0.0, 0.0]).log().clamp_min(-20.0)
    accuracy, negative_loss = logistic.held_out_score((weight, bias), torch.ones(4, 2), torch.tensor([0, 0, 0, 1]))
    assert accuracy == 0.75
    assert abs(negative_loss + 5.0) < 1e-6


def regression(count: int = 120) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return features (N, 5), labels (N,) and whole weights (N,) of four classes."""
    draws = torch.Generator().manual_seed(2)
    labels = torch.randint(0, 4, (count,), generator=draws)
    features = torch.randn(4, 5, generator=draws)[labels] + torch.randn(count, 5, generator=draws)
    return features.double(), labels, torch.randint(0, 4, (count,), generator=draws)


def test_an_image_of_weight_two_counts_as_two_images() -> None:
    features, labels, weights = regression()
    repeated = torch.repeat_interleave(torch.arange(len(labels)), weights)
    weighted = logistic.solve(features, labels, 4, 0.3, weights=weights)
    torch.testing.assert_close(weighted, logistic.solve(features[repeated], labels[repeated], 4, 0.3))
    unweighted = logistic.solve(features, labels, 4, 0.3)
    assert (weighted[0] - unweighted[0]).abs().max() > 0.01
    score = logistic.held_out_score(unweighted, features, labels, weights)
    assert score == pytest.approx(logistic.held_out_score(unweighted, features[repeated], labels[repeated]))
    loss = logistic.objective(*unweighted, features, labels, 0.3, weights)
    torch.testing.assert_close(loss, logistic.objective(*unweighted, features[repeated], labels[repeated], 0.3))
    torch.testing.assert_close(
        logistic.mean_directions(features, labels, 4, weights),
        logistic.mean_directions(features[repeated], labels[repeated], 4),
    )


def test_weights_give_the_solution_of_another_library() -> None:
    features, labels, _ = regression()
    weights = torch.linspace(0.1, 3, len(labels)).double()
    weight, bias = logistic.solve(features, labels, 4, 0.3, weights=weights)
    oracle = LogisticRegression(C=0.3, tol=1e-10, max_iter=5000).fit(features, labels, sample_weight=weights)
    torch.testing.assert_close(weight, torch.from_numpy(oracle.coef_), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(bias, torch.from_numpy(oracle.intercept_ - oracle.intercept_.mean()), atol=1e-5, rtol=0)


def test_shares_of_classes_count_as_so_many_images_of_each() -> None:
    features, labels, _ = regression()
    other = (labels + 1) % 4
    shares = (0.75 * torch.eye(4)[labels] + 0.25 * torch.eye(4)[other]).double()
    twice, both = features.repeat(2, 1), torch.cat([labels, other])
    counted = torch.tensor([0.75, 0.25]).repeat_interleave(len(labels))
    soft, hard = logistic.solve(features, shares, 4, 0.3), logistic.solve(twice, both, 4, 0.3, weights=counted)
    torch.testing.assert_close(soft, hard)
    score = logistic.held_out_score(soft, features, shares)
    assert score == pytest.approx(logistic.held_out_score(soft, twice, both, counted))
    loss = logistic.objective(*soft, features, shares, 0.3)
    torch.testing.assert_close(loss, logistic.objective(*soft, twice, both, 0.3, counted))
    certain = torch.eye(4)[labels]
    torch.testing.assert_close(logistic.solve(features, certain, 4, 0.3), logistic.solve(features, labels, 4, 0.3))


def test_a_strength_is_chosen_on_soft_labels_and_weights() -> None:
    features, labels, weights = regression()
    shares, fit, held = torch.eye(4)[labels], slice(0, 80), slice(80, None)
    parts = (features[fit], shares[fit], features[held], shares[held])
    plain = logistic.best_strength(parts[0], labels[fit], parts[2], labels[held], 4)
    assert logistic.best_strength(*parts, 4) == plain
    ones = torch.ones(len(labels))
    assert logistic.best_strength(*parts, 4, fit_weights=ones[fit], val_weights=ones[held]) == plain
    few = (weights == 3).double()
    assert logistic.best_strength(*parts, 4, fit_weights=few[fit], val_weights=few[held]) != plain


@pytest.mark.parametrize(
    ("labels", "weights", "message"),
    [
        (
            torch.zeros(3, dtype=torch.int64),
            None,
            r"the labels have the shape \(3,\); for 4 features give int64 \(4,\), or",
        ),
        (torch.full((4, 3), 1 / 3), None, r"the labels have the shape \(4, 3\); .* shares of the classes \(4, 7\)"),
        (torch.randn(4, 7).exp() + 1, None, "soft labels are shares .* divide each row by its sum"),
        (torch.tensor([[2.0, -1.0, 0, 0, 0, 0, 0]] * 4), None, "soft labels are shares"),
        (torch.full((4, 7), float("nan")), None, "soft labels are shares"),
        (torch.zeros(4, dtype=torch.int64), torch.ones(3), r"weights are 4 finite numbers .* have the shape \(3,\)"),
        (torch.zeros(4, dtype=torch.int64), torch.tensor([1.0, 1, 1, -1]), "weights are 4 finite numbers from 0"),
        (torch.zeros(4, dtype=torch.int64), torch.tensor([1.0, 1, 1, float("inf")]), "weights are 4 finite numbers"),
        (torch.zeros(4, dtype=torch.int64), torch.zeros(4), ".* not all of them 0"),
    ],
)
def test_labels_and_weights_that_do_not_fit_are_refused(
    labels: torch.Tensor, weights: torch.Tensor | None, message: str
) -> None:
    with pytest.raises(BenchError, match=f"^logistic regression: {message}"):
        logistic.solve(torch.ones(4, 2), labels, 7, 1.0, weights=weights)

"""Test the sweep of strengths: its resolution, and its choice between equally accurate strengths."""

from __future__ import annotations

import pytest
import torch

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

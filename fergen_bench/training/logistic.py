"""Linear classifiers on fixed features: logistic regression solved to its optimum, and mean directions of classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Criterion = Literal["accuracy", "loss"]
"""The value on held-out images by which strengths are compared."""
DECADES = (-6.0, 6.0)
"""The exponents of ten between which `search_exponent` looks for a strength."""
SWEEP_ITERATIONS, SWEEP_TOLERANCE = 100, 1e-4
"""Limits of the solver while strengths are compared; the chosen strength is solved more closely afterwards."""


def best_strength(
    fit_features: Tensor,
    fit_labels: Tensor,
    val_features: Tensor,
    val_labels: Tensor,
    classes: int,
    by: Criterion = "accuracy",
) -> float:
    """Choose the strength C whose solution on one set of images is best on another.

    CLIP's sweep finds the strength, on rough solutions. Among equally accurate strengths the smaller loss decides: a
    small validation set leaves many ties, and the smallest C of a tie may only predict the most common expression.

    Args:
        fit_features: Features to be fitted, (N, D).
        fit_labels: Their labels, int64 (N,).
        val_features: Features to compare on, (M, D).
        val_labels: Their labels, int64 (M,).
        classes: The number of classes.
        by: The accuracy, or the mean cross-entropy (`loss`), which varies less with the images that are held out.

    Returns:
        The strength C.
    """
    problem = Problem(fit_features, fit_labels, classes)

    def score(exponent: float) -> Score:
        solution = problem.solve(10.0**exponent, SWEEP_ITERATIONS, SWEEP_TOLERANCE)
        accuracy, negative_loss = held_out_score(solution, val_features, val_labels)
        return (accuracy, negative_loss) if by == "accuracy" else (negative_loss, accuracy)

    return 10.0 ** search_exponent(score)


Score = tuple[float, float]
"""Two numbers of which larger is better: strengths are compared by the first, then by the second."""


def held_out_score(solution: tuple[Tensor, Tensor], features: Tensor, labels: Tensor) -> Score:
    """Score a solution on images that it was not fitted to.

    Args:
        solution: Weight (K, D) and bias (K,).
        features: (N, D).
        labels: int64 (N,).

    Returns:
        Accuracy and negative mean cross-entropy.
    """
    weight, bias = solution
    logits = (features @ weight.T + bias).double()
    accuracy = (logits.argmax(1) == labels).double().mean().item()
    return accuracy, -functional.cross_entropy(logits, labels).item()


def search_exponent(score: Callable[[float], Score]) -> float:
    """Find the exponent with the best score by CLIP's parametric sweep.

    The sweep scores a coarse grid over `DECADES`, then four times both neighbours of the best at half the step.
    """
    low, high = DECADES
    scores: dict[float, Score] = {}

    def best() -> float:
        return max(sorted(scores), key=lambda exponent: scores[exponent])

    step = 2.0
    exponent = low
    while exponent <= high:
        scores[exponent] = score(exponent)
        exponent += step
    while step > 0.125:
        step /= 2
        centre = best()
        for exponent in (centre - step, centre + step):
            if low <= exponent <= high and exponent not in scores:
                scores[exponent] = score(exponent)
    return best()


def objective(weight: Tensor, bias: Tensor, features: Tensor, labels: Tensor, strength: float) -> Tensor:
    """Return C times the sum of cross-entropies plus half the squared norm of the weights.

    Args:
        weight: (K, D).
        bias: (K,), not penalised.
        features: (N, D).
        labels: int64 (N,).
        strength: C.

    Returns:
        A scalar.
    """
    losses = functional.cross_entropy(features @ weight.T + bias, labels, reduction="sum")
    return strength * losses + 0.5 * weight.pow(2).sum()


def solve(
    features: Tensor, labels: Tensor, classes: int, strength: float, max_iterations: int = 1000
) -> tuple[Tensor, Tensor]:
    """Minimise `objective` for one strength.

    Args:
        features: (N, D).
        labels: int64 (N,).
        classes: K, the number of classes.
        strength: C.
        max_iterations: The most iterations of the solver.

    Returns:
        Weight (K, D) and bias (K,). The objective determines the bias up to a constant; its mean is 0.
    """
    return Problem(features, labels, classes).solve(strength, max_iterations)


class Problem:
    """A regression that is solved for several strengths, each solution starting from the previous one.

    The solver works in coordinates in which the objective's curvature is about the same in every direction: features
    are centred and rotated onto their principal axes, and each axis is scaled by its curvature at the uniform
    prediction, C * variance / K + 1. The minimum does not move; the number of iterations falls from hundreds to dozens.
    The weights are scaled rather than the features, so that one copy of the features serves every strength. A second,
    transposed copy exists because thin products and sums over the classes are fastest along the images.

    Args:
        features: (N, D).
        labels: int64 (N,).
        classes: K, the number of classes.
    """

    def __init__(self, features: Tensor, labels: Tensor, classes: int) -> None:
        self.classes = classes
        self.centre = features.mean(0)
        centred = features - self.centre
        variances, self.axes = torch.linalg.eigh(centred.T @ centred)
        self.curvature = variances.clamp_min(0) / classes
        self.rotated = centred @ self.axes
        self.transposed = self.rotated.T.contiguous()
        self.targets = functional.one_hot(labels, classes).T.to(features.dtype).contiguous()
        self.solution = self.rotated.new_zeros(classes, len(self.axes) + 1)  # the last column is the bias

    def solve(self, strength: float, max_iterations: int, tolerance: float = 1e-8) -> tuple[Tensor, Tensor]:
        """Minimise the objective for one strength.

        Args:
            strength: C.
            max_iterations: The most iterations.
            tolerance: The largest remaining gradient, as a share of the gradient at zero weights.

        Returns:
            Weight (K, D) and bias (K,) of mean 0.
        """
        bias_curvature = self.curvature.new_full((1,), strength * len(self.rotated) / self.classes)
        scale = torch.cat([strength * self.curvature + 1.0, bias_curvature]).rsqrt()

        def value_and_gradient(point: Tensor) -> tuple[Tensor, Tensor]:
            weight, bias = (point * scale).split([len(self.axes), 1], 1)
            log_share = torch.log_softmax(weight @ self.transposed + bias, 0)
            residual = strength * (log_share.exp() - self.targets)
            value = 0.5 * weight.pow(2).sum() - strength * (log_share * self.targets).sum()
            return value, torch.cat([residual @ self.rotated + weight, residual.sum(1, keepdim=True)], 1) * scale

        start = self.solution / scale
        _, steepest = value_and_gradient(torch.zeros_like(start))
        point = minimise(value_and_gradient, start, max_iterations, limit=tolerance * float(steepest.abs().max()))
        self.solution = point * scale
        weight = self.solution[:, :-1] @ self.axes.T
        bias = self.solution[:, -1] - weight @ self.centre
        return weight, bias - bias.mean()


def minimise(
    function: Callable[[Tensor], tuple[Tensor, Tensor]], start: Tensor, max_iterations: int, limit: float
) -> Tensor:
    """Minimise a smooth convex function by L-BFGS (Nocedal 1980).

    The memory is 20 steps long and the search backtracks: in well-scaled coordinates nearly every step has length one.
    Where rounding hides the difference of two values, the search compares slopes (Hager and Zhang 2005).
    torch.optim.LBFGS is not used, because its first use loads a compiler for longer than the whole sweep takes.

    Args:
        function: Returns the value and the gradient at a point.
        start: The first point.
        max_iterations: The most iterations.
        limit: The largest gradient at which the search ends.

    Returns:
        The last point, of the shape of `start`.
    """
    point = start
    value, gradient = function(point)
    memory: list[tuple[Tensor, Tensor, Tensor]] = []
    for _ in range(max_iterations):
        if gradient.abs().max() <= limit:
            break
        direction = -_scaled(gradient, memory)
        slope = (gradient * direction).sum()
        rounding = 10 * torch.finfo(start.dtype).eps * value.abs()
        step = 1.0 if memory else 1.0 / max(1.0, float(gradient.norm()))
        while True:
            candidate = point + step * direction
            new_value, new_gradient = function(candidate)
            new_slope = (new_gradient * direction).sum()
            if new_value <= value + 1e-4 * step * slope:
                break
            if new_value <= value + rounding and new_slope <= -0.9998 * slope:
                break
            step /= 2
            if step < 1e-3:  # this precision allows no further progress
                return point
        moved, turned = candidate - point, new_gradient - gradient
        curvature = (moved * turned).sum()
        if curvature > 0:
            memory = [*memory[-19:], (moved, turned, curvature)]
        point, value, gradient = candidate, new_value, new_gradient
    return point


def _scaled(gradient: Tensor, memory: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """Multiply a gradient by the inverse Hessian that L-BFGS remembers, with the two-loop recursion."""
    direction, weights = gradient.clone(), []
    for moved, turned, curvature in reversed(memory):
        weight = (moved * direction).sum() / curvature
        direction -= weight * turned
        weights.append(weight)
    if memory:
        moved, turned, curvature = memory[-1]
        direction *= curvature / (turned * turned).sum()
    for (moved, turned, curvature), weight in zip(memory, reversed(weights), strict=True):
        direction += (weight - (turned * direction).sum() / curvature) * moved
    return direction


def mean_directions(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Return the direction of each class's mean unit feature.

    Args:
        features: (N, C).
        labels: int64 (N,).
        classes: The number of classes.

    Returns:
        Unit vectors (classes, C); zeros for a class without images.
    """
    members = functional.one_hot(labels, classes).to(features)
    return functional.normalize(members.T @ functional.normalize(features, dim=1), dim=1)

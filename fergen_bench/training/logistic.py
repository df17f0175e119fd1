"""Multinomial logistic regression on fixed features, solved to its optimum: for methods that need a linear head."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

DECADES = (-6.0, 6.0)
SWEEP_ITERATIONS, SWEEP_TOLERANCE = 100, 1e-4
"""How closely strengths are solved to compare them."""


def best_strength(
    fit_features: Tensor, fit_labels: Tensor, val_features: Tensor, val_labels: Tensor, classes: int
) -> float:
    """The strength C whose solution on one set of faces is most accurate on another, found by CLIP's sweep and solved
    roughly. features: (N, D), labels: int64 (N,).

    Among equally accurate ones the smaller loss decides: a few faces leave many ties, and the smallest C of a tie may
    know no more than which expression is commonest.
    """
    problem = Problem(fit_features, fit_labels, classes)

    def score(exponent: float) -> Score:
        solution = problem.solve(10.0**exponent, SWEEP_ITERATIONS, SWEEP_TOLERANCE)
        return held_out_score(solution, val_features, val_labels)

    return 10.0 ** search_exponent(score)


Score = tuple[float, float]
"""What strengths are compared by, larger being better: accuracy, then the mean cross-entropy with its sign turned."""


def held_out_score(solution: tuple[Tensor, Tensor], features: Tensor, labels: Tensor) -> Score:
    """How good a weight (K, D) and bias (K,) are on faces that they were not fitted to."""
    weight, bias = solution
    logits = (features @ weight.T + bias).double()
    accuracy = (logits.argmax(1) == labels).double().mean().item()
    return accuracy, -torch.nn.functional.cross_entropy(logits, labels).item()


def search_exponent(score: Callable[[float], Score]) -> float:
    """CLIP's parametric sweep over exponents of ten: a coarse grid, then both neighbours of the best at half the step,
    four times.
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
    """C * sum of cross-entropies + half the squared norm of the weights (K, D). bias: (K,), features: (N, D)."""
    losses = torch.nn.functional.cross_entropy(features @ weight.T + bias, labels, reduction="sum")
    return strength * losses + 0.5 * weight.pow(2).sum()


def solve(
    features: Tensor, labels: Tensor, classes: int, strength: float, max_iterations: int = 1000
) -> tuple[Tensor, Tensor]:
    """The minimiser of `objective`: weight (K, D) and bias (K,) of mean 0, which is determined up to a constant."""
    return Problem(features, labels, classes).solve(strength, max_iterations)


class Problem:
    """A regression that is solved for several strengths, each starting from the last solution.

    The solver works in coordinates in which the objective's curvature is about the same in every direction: features
    are centred and turned onto their principal axes, and each axis is scaled by its curvature at the uniform
    prediction, C * variance / K + 1. The minimum does not move; the number of iterations falls from hundreds to dozens.
    The scales are put on the weights, so that one copy of the features serves every strength. A second one lies across,
    because thin products and sums over the classes are fastest along the faces.
    """

    def __init__(self, features: Tensor, labels: Tensor, classes: int) -> None:
        self.classes = classes
        self.centre = features.mean(0)
        centred = features - self.centre
        variances, self.axes = torch.linalg.eigh(centred.T @ centred)
        self.curvature = variances.clamp_min(0) / classes
        self.turned = centred @ self.axes
        self.across = self.turned.T.contiguous()
        self.targets = torch.nn.functional.one_hot(labels, classes).T.to(features.dtype).contiguous()
        self.solution = self.turned.new_zeros(classes, len(self.axes) + 1)  # the bias last

    def solve(self, strength: float, max_iterations: int, tolerance: float = 1e-8) -> tuple[Tensor, Tensor]:
        """Weight (K, D) and bias (K,).

        tolerance: the largest gradient that is left, as a share of that of zero weights, unless max_iterations come
        first.
        """
        bias_curvature = self.curvature.new_full((1,), strength * len(self.turned) / self.classes)
        scale = torch.cat([strength * self.curvature + 1.0, bias_curvature]).rsqrt()

        def value_and_gradient(point: Tensor) -> tuple[Tensor, Tensor]:
            weight, bias = (point * scale).split([len(self.axes), 1], 1)
            log_share = torch.log_softmax(weight @ self.across + bias, 0)
            residual = strength * (log_share.exp() - self.targets)
            value = 0.5 * weight.pow(2).sum() - strength * (log_share * self.targets).sum()
            return value, torch.cat([residual @ self.turned + weight, residual.sum(1, keepdim=True)], 1) * scale

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
    """The minimiser of a smooth convex function that gives its value and gradient, to a gradient of at most `limit`.

    L-BFGS (Nocedal 1980) with a memory of 20 and a backtracking search: in well-scaled coordinates nearly every step
    has length one. Where values no longer tell points apart, slopes do (Hager and Zhang 2005). Not torch.optim.LBFGS,
    whose first use loads a compiler for longer than the whole sweep takes.
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
            if step < 1e-3:  # as far as this precision leads
                return point
        moved, turned = candidate - point, new_gradient - gradient
        curvature = (moved * turned).sum()
        if curvature > 0:
            memory = [*memory[-19:], (moved, turned, curvature)]
        point, value, gradient = candidate, new_value, new_gradient
    return point


def _scaled(gradient: Tensor, memory: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """The inverse Hessian that L-BFGS remembers, times the gradient: the two-loop recursion."""
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

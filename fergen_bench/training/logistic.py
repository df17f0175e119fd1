"""Linear classifiers on fixed features: logistic regression solved to its optimum, and mean directions of classes.

Labels are indices of classes, int64 (N,), or the shares of the classes in each image, floating-point (N, K), such as
`split.soft_labels`. Weights (N,) are optional: an image of weight 2 counts as two images.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from fergen_bench.error import BenchError

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
    fit_weights: Tensor | None = None,
    val_weights: Tensor | None = None,
) -> float:
    """Choose the strength C whose solution on one set of images is best on another.

    CLIP's sweep finds the strength, on rough solutions. Among equally accurate strengths the smaller loss decides: a
    small validation set leaves many ties, and the smallest C of a tie may only predict the most common expression.

    Args:
        fit_features: Features to be fitted, (N, D).
        fit_labels: Their labels, int64 (N,) or shares (N, K).
        val_features: Features to compare on, (M, D).
        val_labels: Their labels, int64 (M,) or shares (M, K).
        classes: K, the number of classes.
        by: The accuracy, or the mean cross-entropy (`loss`), which varies less with the images that are held out.
        fit_weights: Weights of the images to be fitted, (N,).
        val_weights: Weights of the images to compare on, (M,).

    Returns:
        The strength C.
    """
    problem = Problem(fit_features, fit_labels, classes, fit_weights)

    def score(exponent: float) -> Score:
        solution = problem.solve(10.0**exponent, SWEEP_ITERATIONS, SWEEP_TOLERANCE)
        accuracy, negative_loss = held_out_score(solution, val_features, val_labels, val_weights)
        return (accuracy, negative_loss) if by == "accuracy" else (negative_loss, accuracy)

    return 10.0 ** search_exponent(score)


Score = tuple[float, float]
"""Two numbers of which larger is better: strengths are compared by the first, then by the second."""


def held_out_score(
    solution: tuple[Tensor, Tensor], features: Tensor, labels: Tensor, weights: Tensor | None = None
) -> Score:
    """Score a solution on images that it was not fitted to.

    Args:
        solution: Weight (K, D) and bias (K,).
        features: (N, D).
        labels: int64 (N,) or shares (N, K).
        weights: Weights of the images, (N,).

    Returns:
        Accuracy and negative mean cross-entropy. With shares, a prediction is as accurate as the share of its class.
    """
    weight, bias = solution
    logits = (features @ weight.T + bias).double()
    if not _is_plain(labels, weights):
        shares = _class_shares(labels, len(bias), logits, weights)
        correct, total = shares.gather(1, logits.argmax(1, keepdim=True)).sum(), shares.sum()
        return (correct / total).item(), ((shares * logits.log_softmax(1)).sum() / total).item()
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


def objective(
    weight: Tensor, bias: Tensor, features: Tensor, labels: Tensor, strength: float, image_weights: Tensor | None = None
) -> Tensor:
    """Return C times the sum of cross-entropies plus half the squared norm of the weights.

    Args:
        weight: (K, D).
        bias: (K,), not penalised.
        features: (N, D).
        labels: int64 (N,) or shares (N, K).
        strength: C.
        image_weights: Weights of the images, (N,).

    Returns:
        A scalar.
    """
    logits = features @ weight.T + bias
    if _is_plain(labels, image_weights):
        losses = functional.cross_entropy(logits, labels, reduction="sum")
    else:
        losses = -(_class_shares(labels, len(bias), logits, image_weights) * logits.log_softmax(1)).sum()
    return strength * losses + 0.5 * weight.pow(2).sum()


def solve(
    features: Tensor,
    labels: Tensor,
    classes: int,
    strength: float,
    max_iterations: int = 1000,
    weights: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Minimise `objective` for one strength.

    Args:
        features: (N, D).
        labels: int64 (N,) or shares (N, K).
        classes: K, the number of classes.
        strength: C.
        max_iterations: The most iterations of the solver.
        weights: Weights of the images, (N,).

    Returns:
        Weight (K, D) and bias (K,). The objective determines the bias up to a constant; its mean is 0.
    """
    return Problem(features, labels, classes, weights).solve(strength, max_iterations)


class Problem:
    """A regression that is solved for several strengths, each solution starting from the previous one.

    The solver works in coordinates in which the objective's curvature is about the same in every direction: features
    are centred and rotated onto their principal axes, and each axis is scaled by its curvature at the uniform
    prediction, C * variance / K + 1. The minimum does not move; the number of iterations falls from hundreds to dozens.
    The weights are scaled rather than the features, so that one copy of the features serves every strength. A second,
    transposed copy exists because thin products and sums over the classes are fastest along the images.

    Args:
        features: (N, D).
        labels: int64 (N,) or shares (N, K).
        classes: K, the number of classes.
        weights: Weights of the images, (N,).

    Raises:
        BenchError: Labels or weights do not fit the features, or cannot be shares or weights.
    """

    def __init__(self, features: Tensor, labels: Tensor, classes: int, weights: Tensor | None = None) -> None:
        shares = _class_shares(labels, classes, features, weights)
        # The weight of each image; None where all are 1, which spares a product with ones in every step.
        self.masses = None if _is_plain(labels, weights) else shares.sum(1)
        self.images = len(features) if self.masses is None else float(self.masses.sum())
        self.classes = classes
        self.centre = features.mean(0) if self.masses is None else self.masses @ features / self.images
        centred = features - self.centre
        weighted = centred if self.masses is None else centred * self.masses[:, None]
        variances, self.axes = torch.linalg.eigh(weighted.T @ centred)
        self.curvature = variances.clamp_min(0) / classes
        self.rotated = centred @ self.axes
        self.transposed = self.rotated.T.contiguous()
        self.targets = shares.T.contiguous()
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
        bias_curvature = self.curvature.new_full((1,), strength * self.images / self.classes)
        scale = torch.cat([strength * self.curvature + 1.0, bias_curvature]).rsqrt()

        def value_and_gradient(point: Tensor) -> tuple[Tensor, Tensor]:
            weight, bias = (point * scale).split([len(self.axes), 1], 1)
            log_share = torch.log_softmax(weight @ self.transposed + bias, 0)
            predicted = log_share.exp() if self.masses is None else log_share.exp() * self.masses
            residual = strength * (predicted - self.targets)
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


def mean_directions(features: Tensor, labels: Tensor, classes: int, weights: Tensor | None = None) -> Tensor:
    """Return the direction of each class's mean unit feature.

    Args:
        features: (N, C).
        labels: int64 (N,) or shares (N, K).
        classes: K, the number of classes.
        weights: Weights of the images, (N,).

    Returns:
        Unit vectors (classes, C); zeros for a class without images.
    """
    members = _class_shares(labels, classes, features, weights)
    return functional.normalize(members.T @ functional.normalize(features, dim=1), dim=1)


def _is_plain(labels: Tensor, weights: Tensor | None) -> bool:
    """Return True for one class per image, and images of equal weight."""
    return weights is None and not labels.is_floating_point()


def _class_shares(labels: Tensor, classes: int, features: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the share of each class in each image, times the weight of the image.

    Args:
        labels: int64 (N,) or shares (N, K).
        classes: K, the number of classes.
        features: (N, …), whose dtype and device the result has.
        weights: Weights of the images, (N,).

    Returns:
        (N, K).

    Raises:
        BenchError: Labels or weights do not fit the features, or cannot be shares or weights.
    """
    wanted = (len(features), classes) if labels.is_floating_point() else (len(features),)
    if labels.shape != wanted:
        raise BenchError(
            f"logistic regression: the labels have the shape {tuple(labels.shape)}; for {len(features)} features give "
            f"int64 ({len(features)},), or shares of the classes ({len(features)}, {classes})"
        )
    shares = labels.to(features) if labels.is_floating_point() else functional.one_hot(labels, classes).to(features)
    if labels.is_floating_point() and not ((shares >= 0).all() and ((shares.sum(1) - 1).abs() < 1e-3).all()):
        raise BenchError(
            "logistic regression: soft labels are shares of the classes, from 0 to 1 with the sum 1 in each row; "
            "divide each row by its sum"
        )
    if weights is None:
        return shares
    if weights.shape != (len(features),) or not (weights.isfinite() & (weights >= 0)).all() or not weights.any():
        raise BenchError(
            f"logistic regression: weights are {len(features)} finite numbers from 0, one per image, not all of them "
            f"0; these have the shape {tuple(weights.shape)}"
        )
    return shares * weights.to(features)[:, None]

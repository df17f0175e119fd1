"""Compare the linear probe and its sweep of strengths with scikit-learn's L-BFGS over the same strengths.

    python benchmarks/probe.py [--faces 12271] [--rounds 5] [--threads 2] [--device cpu]

Both choose among some fifteen strengths C in float32 and then fit the chosen one closely in float64, on generated
features of 512 numbers. scikit-learn (pip install scikit-learn) receives the strengths of this project's sweep, starts
each from its last solution, and continues to a gradient as small as that of this project's solution. The gradient is
the largest entry of the gradient of the mean loss in the coordinates of the features, scikit-learn's own criterion.
The output compares the seconds of alternating rounds, that gradient in float64, and the share of equal predictions on
20,000 new samples. --device cuda moves this project's side to a GPU; scikit-learn stays on the CPU.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from fergen_bench.training import logistic

FEATURES, CLASSES = 512, 7
SHARES = (1290, 281, 717, 4772, 1982, 705, 2524)
"""Numbers of training images of the expressions in RAF-DB."""
Faces = tuple[Tensor, Tensor]
"""Features (N, 512) and labels (N,)."""
Solutions = dict[float, tuple[Tensor, Tensor]]
"""Weight (K, D) and bias (K,) of every strength, in the order in which they were solved."""


def generate(count: int, seed: int) -> Faces:
    """Features float32 (N, 512) of norm 1 and labels (N,), as an image encoder gives them: a large part that all faces
    share, correlated directions whose variance falls as a power, classes that overlap and are as unequal as in RAF-DB.
    """
    world = torch.Generator().manual_seed(7)
    axes = torch.linalg.qr(torch.randn(FEATURES, FEATURES, generator=world))[0]
    spread = torch.arange(1, FEATURES + 1).float() ** -0.6
    common = torch.nn.functional.normalize(torch.randn(FEATURES, generator=world), dim=0) * 1.3 * spread.norm()
    means = 0.13 * spread * torch.randn(CLASSES, FEATURES, generator=world)
    own = torch.Generator().manual_seed(seed)
    labels = torch.multinomial(torch.tensor(SHARES).float(), count, replacement=True, generator=own)
    features = (means[labels] + spread * torch.randn(count, FEATURES, generator=own)) @ axes.T + common
    return torch.nn.functional.normalize(features), labels


def our_sweep(fit: Faces, val: Faces) -> Solutions:
    """Do what `best_strength` does, and return all solutions."""
    problem = logistic.Problem(*fit, CLASSES)
    found: Solutions = {}

    def score(exponent: float) -> logistic.Score:
        strength = 10.0**exponent
        found[strength] = problem.solve(strength, logistic.SWEEP_ITERATIONS, logistic.SWEEP_TOLERANCE)
        return logistic.held_out_score(found[strength], *val)

    logistic.search_exponent(score)
    return found


def agreement(solution: tuple[Tensor, Tensor], faces: Faces) -> float:
    weight, bias = solution
    return (faces[0].to(weight) @ weight.T + bias).argmax(1).eq(faces[1]).double().mean().item()


def their_sweep(fit: Faces, limits: Mapping[float, float]) -> Solutions:
    """scikit-learn's solutions. limits: strength → the gradient to stop at."""
    from sklearn.linear_model import LogisticRegression

    features, labels = fit[0].numpy(), fit[1].numpy()
    model = LogisticRegression(warm_start=True, max_iter=20_000)
    found: Solutions = {}
    for strength, limit in limits.items():
        model.set_params(C=strength, tol=limit).fit(features, labels)
        found[strength] = torch.from_numpy(model.coef_.copy()), torch.from_numpy(model.intercept_.copy())
    return found


def largest_gradient(solution: tuple[Tensor, Tensor], faces: Faces, strength: float) -> float:
    """The largest entry of the gradient of `objective` / (C N), in float64."""
    features, labels = faces[0].double(), faces[1]
    weight, bias = (part.to(features).requires_grad_() for part in solution)
    (logistic.objective(weight, bias, features, labels, strength) / (strength * len(labels))).backward()
    assert weight.grad is not None
    assert bias.grad is not None
    return max(weight.grad.abs().max().item(), bias.grad.abs().max().item())


def together(features: Tensor) -> list[tuple[int, float]]:
    """Return the relative cost of evaluating several strengths at once.

    Returns:
        Pairs of the number of strengths, and the seconds of an evaluation per strength as a share of an evaluation for
        one strength.
    """
    across, took = features.T.contiguous(), dict[int, list[float]]()
    counts = (1, 2, 4, 7)
    for _ in range(15):
        for strengths in counts:
            weight = torch.randn(strengths * CLASSES, features.shape[1], device=features.device)
            before = time.perf_counter()
            share = torch.log_softmax((weight @ across).view(strengths, CLASSES, -1), 1).exp()
            float((share.view(-1, len(features)) @ features).sum())
            took.setdefault(strengths, []).append(time.perf_counter() - before)
    one = statistics.median(took[1])
    return [(strengths, statistics.median(took[strengths]) / strengths / one) for strengths in counts]


class Counted:
    """`minimise`, counting evaluations of the objective."""

    def __init__(self) -> None:
        self.evaluations, self._minimise = 0, logistic.minimise

    def __call__(self, function: Callable[[Tensor], Faces], *rest: Any, **more: Any) -> Tensor:
        def counting(point: Tensor) -> tuple[Tensor, Tensor]:
            self.evaluations += 1
            return function(point)

        return self._minimise(counting, *rest, **more)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, default=12_271)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    choices = parser.parse_args()
    try:
        from threadpoolctl import threadpool_limits  # comes with scikit-learn
    except ImportError:
        sys.exit("scikit-learn is not installed: pip install scikit-learn")
    torch.set_num_threads(choices.threads)
    threadpool_limits(choices.threads)
    features, labels = generate(choices.faces, 1)
    held = choices.faces // 10  # as the held-out part of a source
    fit, val = (features[held:], labels[held:]), (features[:held], labels[:held])
    whole, fresh = (features.double(), labels), generate(20_000, 2)
    counted = Counted()
    logistic.minimise = counted  # type: ignore[assignment]

    def here(faces: Faces) -> Faces:
        return faces[0].to(choices.device), faces[1].to(choices.device)

    our_fit, our_val, our_whole = here(fit), here(val), here(whole)
    strength = logistic.best_strength(*our_fit, *our_val, CLASSES)
    counted.evaluations = 0

    def our_fits() -> Solutions:
        return {strength: logistic.solve(*our_whole, CLASSES, strength)}

    our_solutions = [
        {c: (weight.cpu(), bias.cpu()) for c, (weight, bias) in part.items()}
        for part in (our_sweep(our_fit, our_val), our_fits())
    ]
    evaluations = counted.evaluations
    limits, last = (
        {c: largest_gradient(solution, faces, c) for c, solution in part.items()}
        for part, faces in zip(our_solutions, (fit, whole), strict=True)
    )
    sides: dict[str, tuple[Callable[[], Solutions], Callable[[], Solutions]]] = {
        "ours": (lambda: our_sweep(our_fit, our_val), our_fits),
        "scikit-learn": (lambda: their_sweep(fit, limits), lambda: their_sweep(whole, last)),
    }
    took: dict[str, list[tuple[float, ...]]] = {label: [] for label in sides}
    for turn in range(choices.rounds):
        for label, works in sides.items():
            found, spent = [], []
            for work in works:
                start = time.perf_counter(), time.process_time()
                found.append(work())
                spent += [time.perf_counter() - start[0], time.process_time() - start[1]]
            took[label].append((*spent, spent[0] + spent[2], spent[1] + spent[3]))
            print(f"round {turn + 1}, {label}: sweep {spent[0]:.2f} s, fit {spent[2]:.2f} s", file=sys.stderr)

    print(f"{choices.faces:,} × {FEATURES} × {CLASSES}, {choices.threads} threads, ours on {choices.device}")
    print("medians of seconds (least to most)")
    for place, what in enumerate(
        ("sweep, wall", "processor", "final fit, wall", "processor", "both, wall", "processor")
    ):
        mine, other = ([spent[place] for spent in took[label]] for label in sides)
        ratios = [b / a for a, b in zip(mine, other, strict=True)]
        shown = (f"{statistics.median(v):.2f} ({min(v):.2f} to {max(v):.2f})" for v in (mine, other, ratios))
        print("{:>15}: ours {}, scikit-learn {}; ratio {}".format(what, *shown))
    print(f"evaluations of the objective in ours: {evaluations}")
    print(f"\n{'C':>14} {'gradient, ours':>15} {'scikit-learn':>13} {'same predictions':>17}")
    for mark, mine_, other_, faces in zip(("", "final "), our_solutions, found, (fit, whole), strict=True):
        for c, (weight, bias) in mine_.items():
            said = (fresh[0].to(weight) @ weight.T + bias).argmax(1)
            gradients = (largest_gradient(solution, faces, c) for solution in ((weight, bias), other_[c]))
            ours_left, theirs_left = gradients
            same = agreement(other_[c], (fresh[0], said))
            print(f"{f'{mark}{c:.4g}':>14} {ours_left:15.1e} {theirs_left:13.1e} {same:17.3%}")
    print(f"\nthe chosen one is right on {agreement(our_solutions[1][strength], fresh):.1%} of fresh faces")
    print("an evaluation for several strengths in one go: seconds for each, as a share of those for one alone")
    print("  " + ", ".join(f"{count}: {share:.2f}" for count, share in together(our_fit[0])))


if __name__ == "__main__":
    main()

"""Compare the claimed accuracy of a finished model with the measured one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from fergen_bench.data.facts import DataFacts
from fergen_bench.error import BenchError, did_you_mean
from fergen_bench.records.record import Cell

USUAL_RULE = "majority"
"""The rule that makes labels of votes in most publications, and by default."""
Answer = Literal["reproduced", "not reproduced", "cannot be decided"]
REPRODUCED: Answer = "reproduced"
NOT_REPRODUCED: Answer = "not reproduced"
UNDECIDED: Answer = "cannot be decided"


@dataclass(frozen=True)
class Claim:
    """A claimed accuracy on a target, in per cent, and the number of images if it is stated."""

    target: str
    accuracy: float
    images: int | None = None


@dataclass(frozen=True)
class Verdict:
    """A claim and its measurement.

    Attributes:
        claim: The claim.
        measured: The measured accuracy in per cent; nan where the target was not scored.
        low: The lower end of its 95 % interval (Wilson 1927), in per cent.
        high: Its upper end.
        images: The number of images that were scored.
        answer: The answer.
        reason: The reason of the verdict; "" where the interval is enough.
    """

    claim: Claim
    measured: float
    low: float
    high: float
    images: int
    answer: Answer
    reason: str = ""


def parse_claims(claims: Mapping[str, object], targets: tuple[str, ...]) -> list[Claim]:
    """Return claims from pairs of a target and an accuracy.

    Args:
        claims: Target → accuracy in per cent, as a number or as text, such as 92.2, or 92.2@3068 with the number of
            images.
        targets: The targets that are scored.

    Raises:
        BenchError: A target is not scored, or a value is not an accuracy in per cent.
    """
    found = []
    for target, value in claims.items():
        if target not in targets:
            raise BenchError(f"--claims: {target!r} is not among the targets{did_you_mean(target, targets)}")
        parts = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%?(?:@(\d+))?", str(value).strip())
        if parts is None or not 0 < float(parts[1]) <= 100:
            raise BenchError(
                f"--claims: {target}={value} is not an accuracy in per cent; write {target}=92.2, or "
                f"{target}=92.2@3068 with the number of images"
            )
        if float(parts[1]) < 1:
            raise BenchError(f"--claims: {target}={value} is a share; write it in per cent: {100 * float(parts[1]):g}")
        found.append(Claim(target, float(parts[1]), int(parts[2]) if parts[2] else None))
    return found


def verdict(claim: Claim, cell: Cell | None, facts: DataFacts | None) -> Verdict:
    """Return a claim with its measurement.

    Args:
        claim: The claim.
        cell: The score on its target; None where it was not scored.
        facts: Facts about the data of the target.
    """
    from scipy.stats import binomtest

    nan = float("nan")
    if cell is None or not cell.count:
        return Verdict(claim, nan, nan, nan, 0, UNDECIDED, "the target was not scored")
    right = sum(cell.confusion[place][place] for place in range(len(cell.confusion)))
    ends = binomtest(right, cell.count).proportion_ci(method="wilson")
    measured, low, high = 100 * right / cell.count, 100 * float(ends.low), 100 * float(ends.high)
    obstacle = _obstacle(claim, cell, facts)
    if obstacle:
        answer: Answer = UNDECIDED
    elif claim.accuracy > high + 0.05:  # claims are rounded to a tenth
        answer, obstacle = NOT_REPRODUCED, ""
    else:
        answer = REPRODUCED
        obstacle = "the measurement is higher" if claim.accuracy < low - 0.05 else ""
    return Verdict(claim, measured, low, high, cell.count, answer, obstacle)


def _obstacle(claim: Claim, cell: Cell, facts: DataFacts | None) -> str:
    """Return the reason why a claim and a measurement concern different images or labels; "" if none is known."""
    if cell.absent:
        return f"other n: only {cell.count:,} of {cell.count + cell.absent:,} images have a prediction"
    if claim.images is not None and claim.images != cell.count:
        return f"other n: {claim.images:,} images are claimed, and {cell.count:,} are scored"
    if facts is None:
        return ""
    if claim.images is None and facts.complete is False:
        return f"other n: this copy differs from its owner's ({facts.differs or 'other counts'})"
    if claim.images is None and cell.excluded:
        return f"other n: near-duplicates are left out, and {cell.count:,} images are scored"
    if facts.label_rule not in {"", USUAL_RULE}:
        return f"other label rule: {facts.label_rule} instead of {USUAL_RULE}"
    if facts.label_map and facts.complete is not None:
        return f"other label rule: labels were mapped ({facts.labels})"
    return ""

"""Measure how often a single annotator agrees with the label that several annotators gave.

The label of a majority is easier to predict than one vote is, so the agreement is a scale for accuracies and not their
upper limit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from fergen_bench.data.facts import ANNOTATOR
from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.datasets.votes import COLUMNS, Votes, label_of

if TYPE_CHECKING:
    from fergen_bench.datasets.settings import LabelRule


def agreement(ballots: Iterable[Votes], rule: LabelRule) -> float | None:
    """Return the share of single votes that equal the label which the same rule makes of the other votes of the image.

    A vote does not count where the others have none of the seven expressions as their label: there is nothing to agree
    with. A vote for contempt, unknown or not a face is a disagreement.

    Args:
        ballots: The votes of each image, in the order of COLUMNS.
        rule: The rule that makes a label of votes.

    Returns:
        The share; None where no vote counts.
    """
    agreed = counted = 0
    for votes, images in Counter(ballots).items():
        same, all_votes = _left_out(votes, rule)
        agreed, counted = agreed + images * same, counted + images * all_votes
    return agreed / counted if counted else None


@lru_cache(maxsize=1 << 16)
def _left_out(votes: Votes, rule: LabelRule) -> tuple[int, int]:
    """Return the number of votes that agree with the others of the image, and the number that count."""
    agreed = counted = 0
    for column, number in enumerate(votes):
        others = (*votes[:column], number - 1, *votes[column + 1 :])
        label = label_of(others, rule) if number else ""
        if label in EXPRESSIONS:
            counted += number
            agreed += number * (label == COLUMNS[column])
    return agreed, counted


def by_part(columns: Mapping[str, Sequence[str]], rule: LabelRule | None) -> dict[str, float]:
    """Return the agreement in each part of a domain, with the version of its definition, for domain.json.

    Args:
        columns: The columns of labels.csv.
        rule: The rule that made the labels of the votes.

    Returns:
        Part → share, and the key "version"; empty without votes in all ten columns or without a rule.
    """
    names = [f"votes_{column}" for column in COLUMNS]
    if not rule or not set(names) <= set(columns):
        return {}
    ballots: dict[str, list[Votes]] = {}
    for part, *votes in zip(columns["split"], *(columns[name] for name in names), strict=True):
        if all(votes):
            ballots.setdefault(part, []).append(tuple(map(int, votes)))
    shares = {part: agreement(of, rule) for part, of in ballots.items()}
    found = {part: round(share, 6) for part, share in shares.items() if share is not None}
    return {"version": ANNOTATOR, **found} if found else {}

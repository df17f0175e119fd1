"""Draw a test split for datasets without a split of their owner, and find subjects in file names."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.data.source import disjoint_share
from fergen_bench.datasets.reader import Listing
from fergen_bench.error import BenchError
from fergen_bench.wording import many

if TYPE_CHECKING:
    from fergen_bench.datasets.settings import DomainSettings


def draw_test_split(listing: Listing, settings: DomainSettings) -> None:
    """Turn a share of every expression into the test split, by seed and with disjoint subjects.

    Args:
        listing: A listing whose faces have no split of their owner; it is updated.
        settings: The share and the seed.

    Raises:
        BenchError: One of the two splits would be empty.
    """
    import numpy as np

    faces = listing.faces
    labels = np.array([EXPRESSIONS.index(face.expression) for face in faces], np.int64)
    subjects = np.array([face.subject if face.subject is not None else face.id for face in faces])
    test = set(disjoint_share(labels, subjects, settings.test_share, "test split", settings.split_seed).tolist())
    if faces and len(test) in {0, len(faces)}:
        raise BenchError(_unsplittable(len(np.unique(subjects)), "train" if test else "test", len(faces), settings))
    listing.faces = [replace(face, split="test" if row in test else "train") for row, face in enumerate(faces)]
    listing.about["splits"] = f"{settings.test_share:g} of each expression, seed {settings.split_seed}"
    listing.split_drawn = True


def _unsplittable(subjects: int, split: str, faces: int, settings: DomainSettings) -> str:
    """Return the error for a split that would be empty."""
    people = many(subjects, "subject")
    found = f"there {'is' if subjects == 1 else 'are'} {people}"
    remedy = "divide the faces into train and test yourself"
    if settings.subject is not None:
        found = f"the pattern subject = {settings.subject!r} finds {people}"
        remedy = f"write one that distinguishes subjects, or {remedy}"
    if subjects > 1:
        remedy = f"take another share than test_share = {settings.test_share:g}, or {remedy}"
    return (
        f"{settings.path}: the {split} split would be empty: {found} in {many(faces, 'face')}, and a subject may not "
        f"be in both splits. {remedy[0].upper()}{remedy[1:]}"
    )


def subject_of(name: str, pattern: str | None, place: str) -> str | None:
    """Return the subject in a file name.

    Args:
        name: The file name.
        pattern: A regular expression with one group, or None.
        place: The file and line, for errors.

    Returns:
        The subject, or None without a pattern.

    Raises:
        BenchError: The pattern does not match.
    """
    if pattern is None:
        return None
    match = re.search(pattern, name)
    if match is None or not match[1]:
        raise BenchError(
            f"{place}: the pattern subject = {pattern!r} does not find a subject in this name. Write a pattern with "
            f"one "
            f"(group) that matches every name"
        )
    return match[1]

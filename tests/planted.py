"""Domains with planted near-duplicates, for the tests of audits."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fergen_bench.data.domain import Domain
from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.data.prepared import write_prepared
from fergen_bench.datasets.audit import Audit, audit_domains
from fergen_bench.datasets.comparisons import Comparisons
from fergen_bench.datasets.near_duplicates import Refinement

Prepared = Callable[..., Domain]


def quiet(what: str, done: int, total: int) -> None:
    assert 0 <= done <= total


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    """prepared("web", train=[...], test=[...]): a domain of these faces; their ids are train-0, train-1, …"""

    def make(name: str, **splits: list[np.ndarray]) -> Domain:
        faces = [face for members in splits.values() for face in members]
        ids = [f"{split}-{number}" for split, members in splits.items() for number in range(len(members))]
        columns = {
            "id": ids,
            "expression": [EXPRESSIONS[number % 7] for number in range(len(ids))],
            "split": [split for split, members in splits.items() for _ in members],
        }
        return Domain(write_prepared(tmp_path / "domains" / name, name, [np.stack(faces)], columns, {}))

    return make


@pytest.fixture
def store(tmp_path: Path) -> Comparisons:
    return Comparisons(tmp_path / "comparisons")


@pytest.fixture
def made(tmp_path: Path, store: Comparisons) -> Callable[..., Audit]:
    def make(*domains: Domain, **choices: Refinement) -> Audit:
        return audit_domains(
            "mine", domains, tmp_path / "audit" / "mine", store, tmp_path / "kept", 1, quiet, **choices
        )

    return make


def near(
    audit: Audit, store: Comparisons, target: str, part: str, source: str, parts: Sequence[str] = ("train", "val")
) -> set[str]:
    """Ids of the target's faces that have a near-duplicate in the source."""
    states = {state.name: state.fingerprint for state in audit.states}
    comparison = Comparisons(store.folder).find(states[target], states[source])  # as another process reads it
    assert comparison is not None
    return set(comparison.near(states[target], part, parts).values())


@pytest.fixture(scope="module")
def drawn(web: Domain) -> list[np.ndarray]:
    """Forty different faces."""
    return [np.array(web.faces[row]) for row in web.rows("train")[:40]]


def compressed(face: np.ndarray, quality: int = 40) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(face).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file).convert("RGB"))


@pytest.fixture
def audit(prepared: Prepared, made: Callable[..., Audit], drawn: list[np.ndarray]) -> Audit:
    """rafdb: a test face stands in train. mma: three faces of its train, and two of its test, are of rafdb's train;
    one of its test is in its own val.
    """
    return made(
        prepared("rafdb", train=drawn[:10], test=[drawn[0], *drawn[10:13]]),
        prepared(
            "mma",
            train=[*drawn[1:4], *drawn[20:23]],
            val=drawn[23:25],
            test=[drawn[4], compressed(drawn[5]), drawn[23], drawn[30]],
        ),
    )

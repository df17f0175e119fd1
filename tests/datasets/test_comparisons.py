"""Comparisons that are stored, stale or damaged."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from planted import Prepared, compressed, near, quiet

from fergen_bench.datasets import comparisons
from fergen_bench.datasets.audit import Audit, audit_domains
from fergen_bench.datasets.comparisons import Comparison, Comparisons
from fergen_bench.datasets.near_duplicates import Refinement

# ------------------------------------------------------------------------------------------------------- what is stored


def test_near_duplicates_of_a_target_in_its_sources(audit: Audit, store: Comparisons) -> None:
    assert near(audit, store, "mma", "test", "rafdb") == {"test-0", "test-1"}
    assert near(audit, store, "mma", "test", "mma") == {"test-2"}
    assert near(audit, store, "mma", "test", "mma", ("train",)) == set()
    assert near(audit, store, "rafdb", "test", "rafdb") == {"test-0"}
    assert near(audit, store, "rafdb", "train", "mma") == {"train-1", "train-2", "train-3"}
    assert near(audit, store, "rafdb", "test", "mma") == set()
    assert near(audit, store, "rafdb", "train", "mma", ("test",)) == {"train-4", "train-5"}


def test_a_comparison_is_read_from_its_file(audit: Audit, store: Comparisons) -> None:
    again = Comparisons(store.folder)
    states = [state.fingerprint for state in audit.states]
    for pair in comparisons.pairs_of(states):
        assert again.find(*pair) == again.find(*reversed(pair)) == store.find(*pair) is not None
    assert again.faults == []


def test_another_rule_repeats_the_comparison(
    prepared: Prepared, made: Callable[..., Audit], drawn: list[np.ndarray]
) -> None:
    domains = prepared("a", train=drawn[:3]), prepared("b", test=[compressed(drawn[0]), drawn[5]])
    assert len(made(*domains).pairs) == 1
    strict = made(*domains, refinement=Refinement("nothing is alike", 0.5, lambda opened, pairs: np.zeros(len(pairs))))
    assert (strict.compared, strict.pairs) == (3, ())


def test_a_domain_in_another_state_makes_an_audit_stale(
    audit: Audit, prepared: Prepared, store: Comparisons, drawn: list[np.ndarray]
) -> None:
    known = {state.name: state.fingerprint for state in audit.states}
    again = prepared("mma", train=drawn[:3])
    assert store.find(again.fingerprint, known["rafdb"]) is None
    assert store.stale("mma", again.fingerprint)
    assert not store.stale("mma", known["mma"])
    assert not store.stale("sfew", again.fingerprint)


def spoilt(comparison: Comparison, store: Comparisons, text: str) -> Comparisons:
    states = comparison.a.fingerprint, comparison.b.fingerprint
    (store.folder / f"{states[0]}-{states[1]}.json").write_text(text)
    return Comparisons(store.folder)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"format": 1}', '{"format": 99}', '{"format": 1, "a": [{}]}']
)
def test_a_damaged_comparison_counts_as_absent_and_is_repeated(
    content: str, prepared: Prepared, made: Callable[..., Audit], store: Comparisons, drawn: list[np.ndarray]
) -> None:
    domain = prepared("a", train=drawn[:2], test=[drawn[0]])
    made(domain)
    states = domain.fingerprint, domain.fingerprint
    (whole,) = [comparison for comparison in [store.find(*states)] if comparison is not None]
    fresh = spoilt(whole, store, content)
    assert fresh.find(*states) is None
    (fault,) = fresh.faults
    assert "this comparison cannot be read" in fault
    assert fault.endswith("so its domains count as not audited. Compare them again with fergen-bench data audit")
    assert audit_domains("mine", [domain], store.folder.parent / "again", fresh, None, 1, quiet).compared == 1
    assert Comparisons(store.folder).find(*states) == whole


@pytest.mark.parametrize(
    ("was", "now"), [('"test", 0,', '"test", 7,'), ('"test", 0,', '"tset", 0,'), ('"a": {"name"', '"a": {"nome"')]
)
def test_a_comparison_of_faces_that_its_domains_do_not_have_is_refused(
    was: str, now: str, prepared: Prepared, made: Callable[..., Audit], store: Comparisons, drawn: list[np.ndarray]
) -> None:
    domain = prepared("a", train=drawn[:2], test=[drawn[0]])
    made(domain)
    whole = store.find(domain.fingerprint, domain.fingerprint)
    assert whole is not None
    path = store.folder / f"{domain.fingerprint}-{domain.fingerprint}.json"
    assert was in path.read_text()
    assert (
        spoilt(whole, store, path.read_text().replace(was, now)).find(whole.a.fingerprint, whole.b.fingerprint) is None
    )


def test_reading_a_comparison_loads_neither_numpy_nor_pillow(audit: Audit, store: Comparisons) -> None:
    mma, rafdb = (next(s.fingerprint for s in audit.states if s.name == name) for name in ("mma", "rafdb"))
    code = (
        "import sys; from pathlib import Path; from fergen_bench.datasets.comparisons import Comparisons; "
        f"found = Comparisons(Path({str(store.folder)!r})).find({mma!r}, {rafdb!r}); "
        f"print(sorted(found.near({mma!r}, 'test', ['train'])), {{'numpy', 'PIL', 'torch'}} & set(sys.modules))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[0, 1] set()"

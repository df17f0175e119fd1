"""Settings compared by source validation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from examples import finished
from sample_records import PLAIN

from fergen_bench.records.record import RunRecord
from fergen_bench.report import choosing

LINEAR, SIGMOID = "cafe (gate=linear)", "cafe (gate=sigmoid)"


def validated(source: str, seed: int, share: float, gate: str = "sigmoid", **changes: Any) -> RunRecord:
    """A record that scored no target, and validated with `share` after a better first epoch."""
    changes = {"selection": "source-val", "fraction": 0.5, "parameters": {"gate": gate}, **changes}
    spec = replace(PLAIN, sources=(source,), fingerprints={source: "f"}, seed=seed, targets={}, relations={}, **changes)
    return finished(spec, history=({"val_accuracy": share + 0.1}, {"val_accuracy": share}))


def test_settings_are_compared_on_the_sources_and_seeds_that_all_have() -> None:
    leaderboard = [validated(source, seed, 0.9) for source in ("a", "b") for seed in (0, 1)]
    sigmoid = [validated("a", 100, 0.5), validated("b", 100, 0.6)]
    linear = [validated("a", 100, 0.6, "linear"), validated("b", 100, 0.7, "linear")]
    (found,) = choosing.validation([*leaderboard, *sigmoid, *linear])
    assert [label for _, label in found.table.index] == [LINEAR, SIGMOID]
    assert found.table["last"].tolist() == pytest.approx([65, 55])
    assert found.table["best"].tolist() == pytest.approx([75, 65])
    assert found.table["a"].tolist() == pytest.approx([60, 50])
    assert found.table.runs.tolist() == [2, 2]
    assert found.notes == ["cafe: 4 runs are left out, as not every row was trained on a, b with seed 0, 1"]


def test_settings_of_different_numerics_are_not_compared() -> None:
    older = [validated("a", 0, 0.5), validated("a", 0, 0.6, "linear")]
    newer = [validated("a", 0, 0.7, "linear", numerics=2)]
    (alone,) = choosing.validation(older)
    assert "numerics" not in alone.title
    one, two = choosing.validation([*older, *newer])
    assert (one.title, two.title) == (f"{alone.title}, numerics 1", f"{alone.title}, numerics 2")
    assert [len(one.table), len(two.table)] == [2, 1]


def test_no_setting_is_called_best_that_is_within_the_noise_of_the_next() -> None:
    rates = {0.001: 0.5, 0.002: 0.7, 0.004: 0.72}
    records = [
        validated("a", 0, share, parameters={"rate": rate, "epochs": 1}, defaults={"rate": 0.002, "epochs": 9})
        for rate, share in rates.items()
    ]

    def answer(faces: int | None, *, several: int = 3) -> str:
        (found,) = choosing.validation(records[-several:], lambda spec: faces)
        (said,) = found.answers
        return said

    (found,) = choosing.validation(records, lambda spec: 1000)
    assert [label for _, label in found.table.index][1] == "cafe (rate=0.002, epochs=1)"  # the default rate, too
    assert found.table.faces.tolist() == [1000, 1000, 1000]
    assert found.table.error.tolist() == pytest.approx(
        [100 * np.sqrt(share * (1 - share) / 1000) for share in (0.72, 0.7, 0.5)], rel=0.01
    )
    said = answer(1000)
    assert "highest: rate=0.004, not significantly different from 0.002 (differences of up to 4.0 points may be" in said
    assert said.endswith("no reason to leave the default, rate=0.002")
    only = "one training of each setting, and others may order them otherwise"
    assert answer(100_000) == f"cafe, highest: rate=0.004 ({only}); use it with: --set rate=0.004 --set epochs=1"
    few = answer(15)
    assert "not significantly different from 0.002 or 0.001" in few
    assert "Only 15 held-out faces, of which one is 6.7 points" in few
    assert "how many faces were held out is not known here" in answer(None)
    assert "best" not in answer(None, several=2)


def test_settings_whose_order_differs_between_trainings_are_not_significantly_different() -> None:
    def answer(*apart: float) -> str:
        records = [
            validated(source, seed, 0.6 + more, gate)
            for (source, seed), points in zip([("a", 0), ("a", 1), ("b", 0), ("b", 1)], apart, strict=True)
            for gate, more in (("sigmoid", 0.0), ("linear", points / 100))
        ]
        (found,) = choosing.validation(records, lambda spec: 100_000)
        return found.answers[0]

    assert answer(3, 3, 2, 2).startswith("cafe, best: gate=linear")
    said = answer(9, -3, 6, 0)  # 3 ± 2.7, of which Student's t with 3 degrees of freedom reaches 8.7 points
    error = np.std([9, -3, 6, 0], ddof=1) / 2
    assert f"differences of up to {3.182 * error:.1f} points may be chance" in said
    assert "100,000 held-out faces" not in said
    assert "400,000 held-out faces and 4 trainings" in said


def test_the_error_of_a_setting_covers_its_seeds() -> None:
    records = [validated("a", seed, share) for seed, share in enumerate((0.5, 0.6, 0.7))]
    (found,) = choosing.validation(records, lambda spec: 10**9)
    assert found.table.error.tolist() == pytest.approx([10 / np.sqrt(3)], rel=1e-3)


def test_shares_of_the_data_and_profiles_are_not_averaged_in_source_validation() -> None:
    full = [validated("a", 100, 0.9, fraction=1.0), validated("a", 100, 0.8, "linear", fraction=1.0)]
    half = [validated("a", 100, 0.5), validated("a", 100, 0.6, "linear")]
    other = [validated("a", 100, 0.3, profile="cafe")]
    found = list(choosing.validation([*half, *full, *other]))
    title = "accuracy on held-out faces of the source (%), last epoch"
    assert [part.title for part in found] == [
        title, f"{title}, 50% of the data", f"{title}, cafe splits, 50% of the data"
    ]  # fmt: skip
    assert [part.table["last"].tolist() for part in found] == [pytest.approx(v) for v in ([90, 80], [60, 50], [30])]
    assert [part.notes for part in found] == [[], [], []]


def test_precisions_are_not_averaged_in_source_validation() -> None:
    runs = [validated("a", 100, share, precision=kind) for share, kind in ((0.5, "fp32"), (0.7, "bf16"))]
    full, half = choosing.validation(runs)
    assert half.title == f"{full.title}, bf16"
    assert [part.table["last"].tolist() for part in (full, half)] == [pytest.approx([50]), pytest.approx([70])]


def test_runs_that_differ_in_scoring_alone_are_one_training() -> None:
    runs = [
        validated("a", 100, 0.5),
        validated("a", 100, 0.5, prior=0.5),
        validated("a", 100, 0.5, views=("plain", "mirror")),
    ]
    (found,) = choosing.validation(runs)
    assert found.table.runs.tolist() == [1]
    assert found.table["last"].tolist() == pytest.approx([50])


def test_a_setting_with_other_seeds_is_left_out_by_name_and_the_rest_compared() -> None:
    compared = [validated("a", 100, 0.5), validated("a", 100, 0.6, "linear")]
    (found,) = choosing.validation([*compared, validated("a", 0, 0.9, "other")])
    assert [label for _, label in found.table.index] == [LINEAR, SIGMOID]
    assert found.notes == [
        "cafe (gate=other) is left out: it was not trained on a with seed 100, as the rows above were"
    ]


def test_settings_without_a_common_training_have_no_best() -> None:
    (found,) = choosing.validation([validated("a", 0, 0.5), validated("a", 100, 0.9, "linear")])
    assert found.table.empty
    assert found.notes == [
        "cafe: its 2 settings were not trained on the same sources and seeds, so none is compared; run all of them "
        "with the same --sources and --seeds"
    ]


def test_methods_with_other_seeds_stand_apart_in_source_validation() -> None:
    own = [validated("a", 0, 0.5), validated("a", 0, 0.4, "linear")]
    (found,) = choosing.validation([*own, validated("a", 0, 0.9, method="other")])
    assert [label for _, label in found.table.index] == [SIGMOID, LINEAR, "other"]
    assert found.notes == []
    (found,) = choosing.validation([*own, validated("a", 1, 0.9, method="other")])
    assert len(found.table) == 3
    assert found.notes == ["Methods differ in sources and seeds: only rows of one method may be compared"]

"""The page of findings follows from the committed results, and its words from the intervals."""

from __future__ import annotations

import importlib.util
import math
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from conftest import ROOT

sys.path.insert(0, str(ROOT / "docs" / "findings"))

import comparisons
import conditions
import finding
import parts
import photographic

import fergen_bench as fb
from fergen_bench.api import run as api
from fergen_bench.api.results import load, records_at
from fergen_bench.cli.parameters import run_options
from fergen_bench.cli.runs import run as command
from fergen_bench.experiment.project import find_project
from fergen_bench.experiment.protocol import read_protocol
from fergen_bench.records.collection import Records
from fergen_bench.records.record import Predictions, RunRecord


def script() -> Any:
    """Return the module of the command `python docs/findings`."""
    spec = importlib.util.spec_from_file_location("write_findings", ROOT / "docs" / "findings" / "__main__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_page_is_what_the_committed_results_give() -> None:
    assert script().main(["--check"]) == 0


def test_every_figure_of_the_page_is_there() -> None:
    path = script().PAGE
    page = path.read_text(encoding="utf-8")
    shown = {line.split("(")[1].rstrip(")") for line in page.splitlines() if line.startswith("![")}
    assert shown
    assert all((path.parent / name).is_file() for name in shown)


@pytest.mark.parametrize(
    ("low", "high", "word"), [(0.5, 1.5, "above"), (-2.0, -0.1, "below"), (-0.5, 0.5, "not significantly different")]
)
def test_a_sentence_follows_the_interval(low: float, high: float, word: str) -> None:
    compared: Any = SimpleNamespace(interval=(low, high), difference=(low + high) / 2, p=0.5)
    assert word in finding.apart("B", "A", compared)
    assert "these trainings" not in finding.apart("B", "A", compared)


def test_one_seed_limits_a_sentence_to_its_trainings() -> None:
    compared: Any = SimpleNamespace(interval=(0.5, 1.5), difference=1.0, p=math.nan)
    assert "for these trainings" in finding.apart("B", "A", compared)


@pytest.mark.parametrize(("low", "high", "said"), [(1.0, 3.0, "Yes"), (-3.0, -1.0, "No"), (-1.0, 1.0, "It cannot")])
def test_the_gain_over_another_network_is_told_as_its_interval_says(
    low: float, high: float, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("photographs", "photographs-imagenet"):
        table = pd.read_csv(finding.REFERENCE / f"{name}.csv")
        table.loc[table.method.str.startswith("cafe"), ["over_low", "over_high"]] = low, high
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    monkeypatch.setattr(photographic, "REFERENCE", tmp_path)
    found = photographic.imagenet(fb.load_results("reference", project=ROOT))
    assert found is not None
    assert found.answer.startswith(said)


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [("over_low", 0.5, "This network helps by itself"), ("seeds", 1, "for these trainings")],
)
def test_what_another_network_gives_is_told_as_its_probe_has_it(
    column: str, value: float, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("photographs", "photographs-imagenet"):
        table = pd.read_csv(finding.REFERENCE / f"{name}.csv")
        table.loc[table.method.str.startswith("linear_probe (back"), column] = value
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    results = fb.load_results("reference", project=ROOT)
    before = photographic.imagenet(results)
    monkeypatch.setattr(photographic, "REFERENCE", tmp_path)
    after = photographic.imagenet(results)
    assert before is not None
    assert after is not None
    assert said not in before.answer
    assert said in after.answer


@pytest.mark.parametrize(
    "rows", [("cafe",), ("cafe", "coral (adapt=True)", "tent"), ("coral (adapt=True)", "t3a"), ("linear_probe",)]
)
def test_sections_without_the_row_that_others_are_compared_with_are_left_out(rows: tuple[str, ...]) -> None:
    whole = fb.load_results("reference/synth5", project=ROOT)
    some = [one for one in whole.records if one.spec.label in rows and one.spec.seed == 0 and one.spec.fraction == 0.5]
    results = replace(whole, records=tuple(some))
    for section in (comparisons.online, photographic.photographs, parts.expressions, conditions.sampling):
        assert section(results) is None, section
    found = comparisons.adaptation(results)
    assert (found is not None) == ({"cafe", "coral (adapt=True)"} <= {*rows})
    if found is not None:  # without plain fine-tuning, nothing tells how much of the difference is the network
        assert "most of the difference" not in found.answer
    if (fair := comparisons.fair(results)) is not None:
        assert "; not compared: one training" in fair.answer or "no other row" in fair.answer, fair.answer


def test_the_rank_correlation_of_equal_orders_is_one() -> None:
    values = np.arange(12.0)
    order, low, high = photographic.rank_correlation(values, values**2)
    assert (order, low, high) == pytest.approx((1.0, 1.0, 1.0))
    assert photographic.rank_correlation(values, -values)[0] == pytest.approx(-1.0)


def test_a_table_aligns_its_numbers_to_the_right() -> None:
    text = script().markdown(pd.DataFrame({"row": ["cafe"], "unseen": ["78.7"]}))
    assert text.splitlines() == ["| row | unseen |", "|---|---:|", "| cafe | 78.7 |"]


def changed(seeds: int, gap: float, first: float = 80.0) -> Any:
    """Results on changed faces: CAFE is `gap` points above the probe at the hardest level of each factor."""
    cells = [
        {"method": method, "source": source, "target": source, "relation": "source", "fraction": 0.5, "seed": seed}
        | {"factor": factor, "level": level, "faces": 1000, "asked": 1000, "accuracy": score + seed * 0.1 * above}
        for source in ("web", "film")
        for seed in range(seeds)
        for factor, level, hard in (("clean", 0.0, 0.0), ("pose", 0.4, 1.0), ("pose", 0.8, 20.0), ("light", 1.5, 20.0))
        for method, above in (("linear_probe", 0), ("cafe", 1))
        for score in (first - hard + above * gap * (hard > 1),)
    ]
    return SimpleNamespace(corruptions=pd.DataFrame(cells), domains=("web", "film"))


def test_every_factor_may_differ_and_none() -> None:
    every, none = conditions.extremes(changed(1, 15.0)), conditions.extremes(changed(1, 0.5))
    assert every is not None
    assert none is not None
    assert "differs from the linear probe in light (+15.0) and pose (+15.0). No" in every.answer
    assert "in no factor; the differences are at most 0.5 points, and may be chance. No" in none.answer


@pytest.mark.parametrize(("seeds", "words"), [(1, "one training of each."), (3, "3 trainings of each.")])
def test_changed_faces_have_the_trainings_of_the_records(seeds: int, words: str) -> None:
    found = conditions.extremes(changed(seeds, 6.0))
    assert found is not None
    assert found.answer.endswith(words)
    assert "each scored on 1,000 of its own test faces" in found.answer
    assert (", for these trainings, CAFE" in found.answer) == (seeds == 1)


def test_the_interval_on_changed_faces_has_faces_and_trainings() -> None:
    def gap(seeds: int, apart: float) -> Any:
        frame = changed(seeds, 6.0).corruptions
        frame = frame[(frame.factor == "pose") & (frame.level == 0.8)]
        frame.loc[(frame.method == "cafe") & (frame.seed == 1), "accuracy"] += apart
        return conditions.on_changed_faces(frame[frame.method == "linear_probe"], frame[frame.method == "cafe"])

    one = gap(1, 0.0)
    reach = 1.96 * math.sqrt((60 * 40 + 66 * 34) / 1000 / 2)  # two sources
    assert (one.value, one.low, one.high) == pytest.approx((6.0, 6 - reach, 6 + reach), abs=0.01)
    assert math.isnan(one.p)
    several, varied = gap(3, 0.0), gap(3, 12.0)
    assert several.p < 0.05
    assert several.high - several.low == pytest.approx(2 * reach, abs=0.2)
    assert varied.high - varied.low > 4 * reach


def test_changed_faces_of_a_source_need_a_seed_that_both_rows_have() -> None:
    results = changed(2, 6.0)
    frame = results.corruptions
    there = (frame.source == "web") | (frame.seed == (frame.method == "cafe"))
    found = conditions.extremes(SimpleNamespace(corruptions=frame[there], domains=results.domains))
    assert found is not None
    assert "Sources: web, each" in found.answer
    apart = frame[frame.seed == (frame.method == "cafe")]
    assert conditions.extremes(SimpleNamespace(corruptions=apart, domains=results.domains)) is None


def test_trainings_are_counted_in_words() -> None:
    assert finding.trainings([1, 1]) == "one training"
    assert finding.trainings([3, 3]) == "3 trainings"
    assert finding.trainings([2, 1, 3]) == "1 to 3 trainings"


def test_the_command_for_photographs_has_the_rows_of_the_fair_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    line = photographic.PHOTOGRAPHS.partition(" && ")[0].replace("> protocols/", f"> {shlex.quote(str(tmp_path))}/")
    subprocess.run(line, shell=True, check=True)
    found, whole = read_protocol(tmp_path / "photographs.yaml"), read_protocol(ROOT / "protocols" / "synth5-all.yaml")
    assert (found.suite, found.fraction, found.seeds) == (None, [1.0], [0, 1, 2])
    assert (found.method, found.selection) == (whole.method, whole.selection)
    assert set(pd.read_csv(finding.REFERENCE / "photographs.csv").method.map(finding.short)) <= set(found.method)


def test_every_command_of_the_page_plans_runs() -> None:
    lines = re.findall(r"Repeat it with `(.*)`\.$", script().PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    commands = [part.strip() for line in lines for part in re.split(r";|&&", line)]
    runs = [shlex.split(one)[2:] for one in commands if one.startswith("fergen-bench run")]
    assert len(runs) > 8
    for arguments in runs:
        if "photographs" not in arguments:  # a suite of its own project
            values = command.make_context("run", arguments).params
            assert api.resolve(run_options(values), find_project(ROOT)).outlines


class Repeated(Records):
    """The runs of the committed results with seed 0, once for each of some seeds, with equal predictions."""

    def __init__(self, stored: Records, seeds: int) -> None:
        super().__init__(stored.path)
        self.stored, self.seeds = stored, seeds
        self.first: dict[str, RunRecord] = {}

    def read(self) -> tuple[list[RunRecord], list[str]]:
        found = []
        for record in self.stored.read()[0]:
            for seed in range(self.seeds if record.spec.seed == 0 else 0):
                base = None if record.spec.base is None else replace(record.spec.base, seed=seed)
                found.append(replace(record, spec=replace(record.spec, seed=seed, base=base)))
                self.first[found[-1].spec.key] = record
        return found, []

    def name(self, record: RunRecord) -> str:
        return record.spec.key

    def predictions(self, record: RunRecord) -> Mapping[str, Predictions]:
        return self.stored.predictions(self.first[record.spec.key])

    def arrays(self, record: RunRecord) -> Mapping[str, np.ndarray]:
        return {}


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [1, 3])
def test_every_section_names_the_seeds_that_it_has(seeds: int) -> None:
    project = find_project(ROOT)
    results = load(project, Repeated(records_at("reference", project), seeds), "synth5")
    of_pairs = (comparisons.adaptation, comparisons.online, comparisons.several, conditions.scale, conditions.sampling)
    others = (comparisons.fair, parts.ablation, parts.expressions, conditions.networks, conditions.extremes)
    for section in (*of_pairs, *others):
        found = section(results)
        assert found is not None, section
        limits = re.findall("these trainings|one seed|one training", found.answer)
        assert bool(limits) == (seeds == 1), found.answer
        if section in of_pairs and seeds == 1:
            assert len(limits) == found.answer.count("(95 %") + found.answer.count("points, 95 %"), found.answer
        if found.table is not None and "seeds" in found.table:
            assert set(found.table.seeds) == {str(seeds)}

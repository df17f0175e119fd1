"""The options of a run have one declaration, from which the flags, the keywords and the documentation follow."""

from __future__ import annotations

from dataclasses import fields
from typing import get_args

import click
import pytest

from conftest import ROOT
from fergen_bench import BenchError
from fergen_bench.api.options import PRECISIONS, SELECTIONS, VIEWS, RunOptions, from_keywords, keywords, table
from fergen_bench.cli.parameters import run_options
from fergen_bench.cli.runs import run
from fergen_bench.experiment.run import Precision, Selection, View


def parsed(*arguments: str) -> RunOptions:
    with run.make_context("run", list(arguments)) as context:
        return run_options(context.params)


def test_the_command_has_the_declared_options_and_no_other() -> None:
    assert [parameter.name for parameter in run.params] == [one.name for one in fields(RunOptions)]
    assert all(isinstance(parameter, click.Option) and parameter.help for parameter in run.params)


def test_an_empty_command_line_gives_the_defaults() -> None:
    assert parsed() == RunOptions()


def test_a_command_line_and_keywords_give_the_same_options() -> None:
    line = (
        "-m cafe -m scn -p leave-one-out -s synth5 -b synth --set gate=linear --set epochs=3 --seeds 0,1 --sources web "
        "--targets film,wild --selection source-val --views plain,mirror --prior 0.5 --device cpu --precision auto "
        "-j 2 --shard 2/8 --rerun --records reference --no-audit --no-track --keep-models --slurm gpus=1,time=1:00 "
        "--gpus-per-run 0.5 --cpus-per-run 2 --ray"
    )
    assert parsed(*line.split()) == from_keywords(
        {
            "methods": ["cafe", "scn"],
            "protocol": "leave-one-out",
            "suite": "synth5",
            "backbone": "synth",
            "parameters": {"gate": "linear", "epochs": 3},
            "seeds": [0, 1],
            "sources": "web",
            "targets": ["film", "wild"],
            "selection": "source-val",
            "views": ["plain", "mirror"],
            "prior": 0.5,
            "device": "cpu",
            "precision": "auto",
            "jobs": 2,
            "shard": (2, 8),
            "rerun": True,
            "records": "reference",
            "audit": False,
            "track": False,
            "keep_models": True,
            "slurm": {"gpus": "1", "time": "1:00"},
            "gpus_per_run": 0.5,
            "cpus_per_run": 2.0,
            "ray": "local",
        }
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"selection": "lost"}, "selection: 'lost' is not a selection; did you mean last"),
        ({"seeds": []}, "seeds: .* is not a list of seeds"),
        ({"seeds": [-1]}, "seeds: .* is not a list of seeds"),
        ({"seeds": ["one"]}, "seeds: .* is not a list of seeds"),
        ({"shard": (3, 2)}, r"shard: \(3, 2\) is not a share"),
        ({"precision": "fp16"}, r"precision: 'fp16' is not a precision; did you mean"),
        ({"jobs": -1}, "jobs: -1 is below 0"),
        ({"gpus_per_run": float("nan")}, "gpus_per_run: nan is not a number"),
        ({"cpus_per_run": float("inf")}, "cpus_per_run: inf is not a number"),
        ({"views": ["plain", "miror"]}, "views: 'miror' is not a view; did you mean mirror"),
        ({"views": []}, "views: none: give plain, mirror or both, each once"),
        ({"views": "plain,plain"}, "views: 'plain,plain' is not a view"),
        ({"views": ["mirror", "mirror"]}, "views: mirror, mirror: give plain, mirror or both, each once"),
        ({"prior": 1.5}, "prior: 1.5 is not a share. Give a number from 0 to 1"),
        ({"prior": -0.1}, "prior: -0.1 is not a share"),
        ({"prior": float("nan")}, "prior: nan is not a share"),
        ({"prior": "half"}, "prior: 'half' is not a share"),
    ],
)
def test_values_that_no_run_could_have_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(BenchError, match=message):
        from_keywords(values)


def test_a_misspelt_keyword_is_refused() -> None:
    with pytest.raises(TypeError, match=r"run\(\) has no keyword 'seed'; did you mean seeds\?"):
        from_keywords({"seed": 0})
    for name in ("dry_run", "replay"):
        assert name not in keywords()
        with pytest.raises(TypeError, match="has no keyword"):
            from_keywords({name: True})


def test_the_selections_and_precisions_are_those_of_a_run() -> None:
    assert get_args(Selection) == SELECTIONS
    assert (*get_args(Precision), "auto") == PRECISIONS
    assert get_args(View) == VIEWS


def test_the_documented_table_is_the_declared_one() -> None:
    assert table() in (ROOT / "docs" / "python.md").read_text()

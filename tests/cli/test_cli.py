"""The commands, run as a user types them."""

from __future__ import annotations

import re

import pytest

from conftest import Bench
from fergen_bench.cli import app
from fergen_bench.experiment.project import Project


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("run --method cafee", r"no method 'cafee' in .*; did you mean cafe\?"),
        ("run --method mine --protocol leave-non", r"no protocol 'leave-non' .*did you mean leave-none\?"),
        ("run --method mine --suite synth6", r"no suite 'synth6'; did you mean synth5\?"),
        ("run --method linear_probe --backbone sinth", r"--set: backbone: no network 'sinth'; did you mean synth\?"),
        ("run --method mine --backbone synth", r"--backbone: the method mine has no parameter backbone"),
        ("run --method mine --set shft=1", r"--set: the method mine has no parameter 'shft'; did you mean shift\?"),
        ("run --method mine --set shift=high", r"--set: shift takes float, not 'high'"),
        ("run --method mine --set shift", r"'shift' is not a setting; write name=value"),
        ("run --method mine --seeds one", r"'one' is not a list of integers; write 0,1,2"),
        ("run --method mine --shard 3/2", r"'3/2' is not a share"),
        ("run --method mine --device tpu", r"--device: 'tpu' is not a device"),
        ("run --method mine --sources webb", r"--sources: .* has no domain 'webb'; did you mean web\?"),
        ("run", r"name a method with --method; there are cafe, .* and \d+ more\. See: fergen-bench list"),
        ("runn", r"no command 'runn'; did you mean run\?"),
        ("list cafee", r"nothing is called 'cafee'; did you mean cafe\?"),
        ("report", r"results/runs: no such records of synth5-tiny\. Make some"),
        ("data describe webb", r"no domain 'webb', .*did you mean web\?"),
        ("new-method cafe", r"a method 'cafe' exists already"),
        ("new-method 1st", r"'1st' cannot be the name of a method"),
        ("ui", r"sqlite:.*: contains no mirrored records"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence_and_exit_code_2(mine: Project, bench: Bench, arguments: str, message: str) -> None:
    result = bench(*arguments.split())
    assert result.code == 2
    assert re.search(message, result.err.replace("\n", " ")), result.err
    assert "Traceback" not in result.err


def test_debug_shows_the_traceback(mine: Project, bench: Bench) -> None:
    for arguments in (("run", "--method", "cafee", "--debug"), ("--debug", "run", "--method", "cafee")):
        with pytest.raises(Exception, match="no method 'cafee'"):
            bench(*arguments)
    assert bench("run", "--method", "cafee").code == 2
    # Behind -- it is a word like others.
    assert bench("new-method", "--", "--debug").code == 2


def test_the_group_itself_reads_debug() -> None:
    for arguments, debug in ((["list"], False), (["--debug", "list"], True)):
        asked: dict[str, bool] = {}
        app.main(arguments, obj=asked, standalone_mode=False)
        assert asked == {"debug": debug}


def test_help_has_examples(bench: Bench) -> None:
    assert "fergen-bench run --method cafe --protocol leave-none" in bench("--help").out
    assert "fergen-bench run --protocol cafe-ablation" in bench("run", "--help").out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(bench: Bench, shell: str) -> None:
    assert "_FERGEN_BENCH_COMPLETE" in bench("completion", shell).out

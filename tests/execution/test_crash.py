"""`kill -9` at any instant, any number of times: nothing torn, nothing lost, and the numbers of an undisturbed matrix.

FERGEN_KILLS sets the number of kills (docs/reliability.md has the figures of a longer run).
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fergen_bench.experiment.project import Project
from fergen_bench.records import listing

KILLS = int(os.environ.get("FERGEN_KILLS", "12"))
MAIN = "from fergen_bench.cli import main; main()"
ASKED = ("run", "--method", "scn", "--method", "linear_probe", "--seeds", "0,1", "--sources", "web,film", "--no-track")


def start(root: Path) -> subprocess.Popen[bytes]:
    """The command, in a process group of its own, which its workers share."""
    return subprocess.Popen(
        [sys.executable, "-c", MAIN, *ASKED],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        process_group=0,
    )


def found(root: Path) -> dict[str, list[list[list[int]]]]:
    records, faults = listing.read_all(root / "results" / "runs")
    assert faults == [], "a torn record"
    return {entry.spec.key: [cell.confusion for cell in entry.cells] for entry in records}


@pytest.mark.slow
def test_killed_at_any_instant_the_matrix_ends_as_if_undisturbed(project: Project, tmp_path: Path) -> None:
    toml = (project.root / "bench.toml").read_text()
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for root in (whole, killed):
        root.mkdir()
        # The training is saved after every epoch, so that kills meet half-written states too.
        (root / "bench.toml").write_text(toml.replace("device", "save_every = 0\njobs = 2\ndevice"))
    begun = time.monotonic()
    assert start(whole).wait(timeout=600) == 0
    took = time.monotonic() - begun
    expected, chance = found(whole), random.Random(0)

    before: dict[str, list[list[list[int]]]] = {}
    kills = 0
    while kills < KILLS:
        process = start(killed)
        try:
            process.wait(timeout=chance.uniform(0.2, 0.4 * took))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
        after = found(killed)
        assert before.items() <= after.items(), "a finished run is lost"
        if len(after) == len(expected):
            for file in (killed / "results" / "runs").glob("*/*/*.json"):
                file.unlink()  # so that there is something to kill
            after = found(killed)
        before = after
    assert start(killed).wait(timeout=600) == 0
    assert found(killed) == expected
    assert not list((killed / "results" / "unfinished").glob("*.pt"))
    assert not list((killed / "results" / "runs").rglob(".*")), "a draft was left"
    again = start(killed)
    output, _ = again.communicate(timeout=60)
    assert b"Nothing to do" in output
    print(f"{kills} kills in {time.monotonic() - begun:.0f} s; undisturbed it took {took:.0f} s")

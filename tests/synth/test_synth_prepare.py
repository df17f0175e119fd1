"""Rendering into the prepared form."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fergen_bench.data.domain import Domain
from fergen_bench.synth.render import render
from fergen_bench.synth.worlds import WORLDS, compose

RENDERING = """
import sys
from pathlib import Path
from fergen_bench.synth.prepare import prepare
prepare("synth5", {"web": Path(sys.argv[1])}, 2, lambda domain, done, total: print(done, flush=True))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_rendering_processes_end_with_a_killed_parent(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", RENDERING, str(tmp_path / "web")], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline()
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) >= 2
    process.kill()
    process.wait()
    process.stdout.close()
    until = time.monotonic() + 20
    alive = children
    while alive and time.monotonic() < until:
        time.sleep(0.1)
        alive = [child for child in children if is_alive(child)]
    for child in alive:
        os.kill(int(child), signal.SIGKILL)
    assert alive == []
    assert not (tmp_path / "web").exists()


def is_alive(process: str) -> bool:
    """Return True while the process of this number runs."""
    try:
        return bool(
            Path(f"/proc/{process}/cmdline").read_bytes()
        )  # empty for a process that has ended and waits for its parent
    except OSError:
        return False


def test_every_generating_factor_is_stored_next_to_the_label(web: Domain) -> None:
    with (web.folder / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    scene = compose("web", "train", np.arange(3))
    kept = set(rows[0])
    assert set(scene.columns) - {"label", "expression"} <= kept
    assert {"id", "expression", "split", "shown", "au12", "yaw", "light_x", "skin_tone", "intensity", "form"} <= kept
    for row, value in zip(rows, scene.columns["yaw"], strict=False):
        assert float(row["yaw"]) == pytest.approx(value, rel=1e-3)


def test_the_tiny_suite_is_the_first_tenth(web: Domain) -> None:
    assert len(web.rows("train")) == WORLDS["web"].train // 10
    drawn = render(compose("web", "train", np.arange(5)), 64)
    np.testing.assert_array_equal(web.split("train").faces(slice(0, 5)).permute(0, 2, 3, 1), drawn)

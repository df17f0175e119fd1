"""Drafts that continue after any end, and the errors of writing them."""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest
from PIL import Image
from squares import COUNT, SIDE, STEP, _small_and_fast, hidden, level, listing_of, processes, run  # noqa: F401  (fixtures)

from fergen_bench.data.domain import Domain
from fergen_bench.datasets.reader import Listing
from fergen_bench.error import BenchError


@pytest.fixture
def listing(tmp_path: Path) -> Listing:
    return listing_of(tmp_path / "files")


# -------------------------------------------------------------------------------- what cannot be read


def spoil(listing: Listing, *rows: int) -> None:
    for row in rows:
        path = listing.faces[row].file
        assert path is not None
        path.write_bytes(b"" if row % 2 else b"no image")


def test_a_mended_file_costs_one_block(listing: Listing, tmp_path: Path) -> None:
    spoil(listing, 6)
    with pytest.raises(BenchError, match="1 file is missing or cannot be read"):
        run(listing, tmp_path / "out")
    Image.new("L", (SIDE, SIDE), level(6)).save(tmp_path / "files" / "006.png")
    seen: list[int] = []
    domain = run(listing, tmp_path / "out", lambda done, total: seen.append(done))
    assert seen == [COUNT - STEP, COUNT]
    assert [int(face[0, 0, 0]) for face in domain.faces] == [level(number) for number in range(COUNT)]


# -------------------------------------------------------------------------------- killed, full, and raced

SCRIPT = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = [{tests!r}]
from fergen_bench.datasets import draft
from fergen_bench.datasets import prepare as module
from test_draft import STEP, SIDE, listing_of, run
draft.BLOCK_BYTES = STEP * SIDE * SIDE * 3
def seen(done, total):
    print(done, flush=True)
    if done >= {kill_at}:
        os.kill(os.getpid(), signal.SIGKILL)
print(run(listing_of(Path({files!r})), Path({out!r}), seen).fingerprint)
"""


def start(tmp_path: Path, kill_at: int = 1000) -> subprocess.Popen[str]:
    tests, files, out = str(Path(__file__).parent), str(tmp_path / "files"), str(tmp_path / "out")
    script = SCRIPT.format(tests=tests, files=files, out=out, kill_at=kill_at)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment)


def blacken(path: Path) -> None:
    """Other pixels in a file whose size and time stay the same: decoding it again would show."""
    before = path.stat()
    content = path.read_bytes()
    path.write_bytes(b"\0" * len(content))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_killed_in_the_middle_it_continues_from_the_finished_blocks(listing: Listing, tmp_path: Path) -> None:
    expected = run(listing, tmp_path / "undisturbed").fingerprint
    process = start(tmp_path, kill_at=5 * STEP)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert int(out.split()[-1]) == 5 * STEP
    assert not (tmp_path / "out").exists()
    with (tmp_path / ".out.journal").open("a") as journal:
        journal.write('{"digest": "cut sho')
    for face in listing.faces[: 5 * STEP]:
        assert face.file is not None
        blacken(face.file)
    seen: list[int] = []
    assert run(listing, tmp_path / "out", lambda done, total: seen.append(done)).fingerprint == expected
    assert seen[0] == 5 * STEP
    assert hidden(tmp_path) == set()


def test_a_draft_of_other_files_or_settings_is_not_used(listing: Listing, tmp_path: Path) -> None:
    spoil(listing, 39)
    with pytest.raises(BenchError):
        run(listing, tmp_path / "out")
    assert listing.faces[0].file is not None
    Image.new("L", (SIDE, SIDE), 255).save(listing.faces[0].file)
    seen: list[int] = []
    domain = run(listing, tmp_path / "out", lambda done, total: seen.append(done), size=20, allow_missing=True)
    assert seen[0] == 0
    assert domain.faces.shape == (COUNT - 1, 20, 20, 3)
    assert domain.faces[0, 0, 0, 0] == 255


def test_a_draft_without_its_journal_starts_again(listing: Listing, tmp_path: Path) -> None:
    (tmp_path / ".out.draft").mkdir()
    (tmp_path / ".out.draft" / "faces.npy").write_bytes(b"half")
    assert run(listing, tmp_path / "out").faces[1, 0, 0, 0] == level(1)


def test_two_at_once_do_the_work_once(listing: Listing, tmp_path: Path) -> None:
    outs = [process.communicate(timeout=60)[0].split() for process in [start(tmp_path), start(tmp_path)]]
    assert outs[0][-1] == outs[1][-1] == Domain(tmp_path / "out").fingerprint
    assert sorted(out[0] for out in outs) == ["0", str(COUNT)]


@pytest.mark.usefixtures("processes")
def test_a_full_disk_is_one_sentence_and_work_goes_on_after_it(listing: Listing, tmp_path: Path) -> None:
    before = run(listing, tmp_path / "out", emulate_bgr=True)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6 * STEP * SIDE * SIDE * 3, hard))  # inherited by the workers
    try:
        with pytest.raises(BenchError) as error:
            run(listing, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    message = str(error.value)
    assert message.startswith(f"{tmp_path}/.out.draft/faces.npy: the disk or your quota is full (File too large)")
    assert f"preparing {tmp_path}/out needs " in message
    assert "\n" not in message
    assert Domain(tmp_path / "out").about["inputs"] == before.about["inputs"]
    seen: list[int] = []
    run(listing, tmp_path / "out", lambda done, total: seen.append(done))
    assert seen[0] == 5 * STEP


def test_too_little_space_is_seen_beforehand(listing: Listing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")(10**9, 10**9 - 1000, 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(
        BenchError, match=r"40 faces of 16 × 16 pixels needs \d\d,\d{3} bytes more and the disk has 1,000"
    ):
        run(listing, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("processes")
def test_a_killed_worker_is_reported(listing: Listing, tmp_path: Path) -> None:
    others = set(multiprocessing.active_children())

    def seen(done: int, total: int) -> None:
        for process in set(multiprocessing.active_children()) - others:
            process.kill()

    with pytest.raises(
        BenchError, match=r"out: a process that decoded faces for it was killed, .* it continues where it"
    ):
        run(listing, tmp_path / "out", seen)
    assert run(listing, tmp_path / "out").faces[1, 0, 0, 0] == level(1)

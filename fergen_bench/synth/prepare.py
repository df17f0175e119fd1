"""Renders domains of the embedded suite into their prepared form, on several processes; the parent loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.data.prepared import write_prepared
from fergen_bench.files.pool import worker_pool
from fergen_bench.progress import Progress
from fergen_bench.synth import VERSION, share_of, size_of

BLOCK = 250
CHUNK = 32  # faces rendered at once; the bytes do not depend on it

Table = dict[str, list[object]]


class Job(NamedTuple):
    """Some rows of one split, for one process."""

    domain: str
    split: str
    start: int
    stop: int
    size: int


def prepare(suite: str, folders: Mapping[str, Path], processes: int, progress: Progress) -> None:
    """Renders train and test of each domain into its folder. progress(domain, done, total) counts faces."""
    from fergen_bench.synth.worlds import WORLDS

    share, size = share_of(suite), size_of(suite)
    jobs = []
    totals = dict.fromkeys(folders, 0)
    for domain in folders:
        for split, count in (("train", WORLDS[domain].train // share), ("test", WORLDS[domain].test // share)):
            jobs += [Job(domain, split, start, min(start + BLOCK, count), size) for start in range(0, count, BLOCK)]
            totals[domain] += count
    blocks: dict[str, list[tuple[np.ndarray, Table]]] = {domain: [] for domain in folders}
    with worker_pool(processes) as pool:
        for job, block in zip(jobs, pool.map(_render, jobs), strict=True):
            blocks[job.domain].append(block)
            done = sum(len(faces) for faces, _ in blocks[job.domain])
            progress(job.domain, done, totals[job.domain])
            if done == totals[job.domain]:
                _write(job.domain, folders[job.domain], blocks.pop(job.domain))


def _write(domain: str, folder: Path, blocks: list[tuple[np.ndarray, Table]]) -> None:
    from fergen_bench.synth.worlds import WORLDS

    tables = [table for _, table in blocks]
    names = dict.fromkeys(name for table in tables for name in table)
    # Votes exist for train only: the cells of test are empty.
    columns = {
        name: [value for table in tables for value in table.get(name, [""] * len(table["id"]))] for name in names
    }
    about = {
        "layout": f"rendered, version {VERSION}",
        "profile": "official",
        "about": WORLDS[domain].about,
        "resizer": "none",
        "synthetic": True,
    }
    write_prepared(folder, domain, [faces for faces, _ in blocks], columns, about)


def _render(job: Job) -> tuple[np.ndarray, Table]:
    """Faces uint8 (n, size, size, 3) and the table of labels and generating factors."""
    import torch

    from fergen_bench.synth.render import render
    from fergen_bench.synth.worlds import compose

    torch.set_num_threads(1)
    faces, scenes = [], []
    for first in range(job.start, job.stop, CHUNK):
        scene = compose(job.domain, job.split, np.arange(first, min(first + CHUNK, job.stop)))
        faces.append(render(scene, job.size).permute(0, 2, 3, 1).numpy())
        scenes.append(scene.columns)
    columns = {name: np.concatenate([scene[name] for scene in scenes]) for name in scenes[0]}
    table: Table = {
        "id": [f"{job.split}-{index:05d}" for index in range(job.start, job.stop)],
        "expression": [EXPRESSIONS[label] for label in columns.pop("label")],
        "split": [job.split] * (job.stop - job.start),
        "shown": [EXPRESSIONS[label] for label in columns.pop("expression")],
        "second_expression": [EXPRESSIONS[label] for label in columns.pop("second_expression")],
    }
    for name, values in columns.items():
        table[name] = [f"{value:.4g}" for value in values]
    return np.concatenate(faces), table

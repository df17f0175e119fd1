"""Render domains of the embedded suite into their prepared form, in several processes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fergen_bench.data.facts import ANNOTATOR
from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.data.prepared import write_prepared
from fergen_bench.files.pool import worker_pool
from fergen_bench.progress import Progress
from fergen_bench.synth import VERSION, share_of, size_of

BLOCK = 250  # images of one task

Table = dict[str, list[object]]


class Block(NamedTuple):
    """Some rows of one split, rendered by one process."""

    domain: str
    split: str
    start: int
    stop: int
    size: int


def prepare(suite: str, folders: Mapping[str, Path], processes: int, progress: Progress) -> None:
    """Render the train and test splits of each domain into its folder.

    Args:
        suite: The name of an embedded suite.
        folders: The folder of each domain.
        processes: Number of worker processes.
        progress: Receives the domain, the number of rendered images and their total.
    """
    from fergen_bench.synth.worlds import WORLDS

    share, size = share_of(suite), size_of(suite)
    wanted = []
    totals = dict.fromkeys(folders, 0)
    for domain in folders:
        for split, count in (("train", WORLDS[domain].train // share), ("test", WORLDS[domain].test // share)):
            wanted += [Block(domain, split, start, min(start + BLOCK, count), size) for start in range(0, count, BLOCK)]
            totals[domain] += count
    rendered: dict[str, list[tuple[np.ndarray, Table]]] = {domain: [] for domain in folders}
    with worker_pool(processes) as pool:
        for block, result in zip(wanted, pool.map(_render, wanted), strict=True):
            rendered[block.domain].append(result)
            done = sum(len(images) for images, _ in rendered[block.domain])
            progress(block.domain, done, totals[block.domain])
            if done == totals[block.domain]:
                _write(block.domain, folders[block.domain], rendered.pop(block.domain))


def _write(domain: str, folder: Path, blocks: list[tuple[np.ndarray, Table]]) -> None:
    from fergen_bench.synth.worlds import WORLDS, single_annotator

    tables = [table for _, table in blocks]
    names = dict.fromkeys(name for table in tables for name in table)
    # Only train splits have votes; the cells of test splits are empty.
    columns = {
        name: [value for table in tables for value in table.get(name, [""] * len(table["id"]))] for name in names
    }
    about = {
        "layout": f"rendered, version {VERSION}",
        "profile": "official",
        "about": WORLDS[domain].about,
        "resizer": "none",
        "synthetic": True,
        "single_annotator": {
            "version": ANNOTATOR,
            "test": round(single_annotator(domain, columns["split"].count("test")), 6),
        },
    }
    write_prepared(folder, domain, [images for images, _ in blocks], columns, about)


def _render(block: Block) -> tuple[np.ndarray, Table]:
    """Return images uint8 (n, size, size, 3) and the table of labels and generating factors."""
    from fergen_bench.synth.render import render
    from fergen_bench.synth.worlds import compose

    scene = compose(block.domain, block.split, np.arange(block.start, block.stop))
    columns = dict(scene.columns)
    table: Table = {
        "id": [f"{block.split}-{index:05d}" for index in range(block.start, block.stop)],
        "expression": [EXPRESSIONS[label] for label in columns.pop("label")],
        "split": [block.split] * (block.stop - block.start),
        "shown": [EXPRESSIONS[label] for label in columns.pop("expression")],
        "second_expression": [EXPRESSIONS[label] for label in columns.pop("second_expression")],
    }
    for name, values in columns.items():
        table[name] = [f"{value:.4g}" for value in values]
    return render(scene, block.size), table

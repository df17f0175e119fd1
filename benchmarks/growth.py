"""Measure how time and memory grow with images and runs, and draw docs/pictures/growth.png.

    python benchmarks/growth.py [--faces 1000 10000 100000 300000] [--most-features 30000] [--runs 15 150 1500]

Images are generated, of 48 pixels. Every measurement has a process of its own, with one thread. Memory is the peak
beyond the start of the work, without memory maps, whose pages the system reclaims. A line is fitted through the
logarithms: the exponent is 1 if growth is linear. The fit uses sizes of at least a tenth of the largest, because fixed
costs dominate below.
"""

from __future__ import annotations

import argparse
import math
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import numpy as np

SIZE, BLOCK = 48, 2000


class Watch:
    """Wall seconds, processor seconds and megabytes of a piece of work."""

    wall = used = megabytes = 0.0

    @contextmanager
    def on(self) -> Iterator[None]:
        """Measure the work of a block."""
        before, ended = _anonymous(), threading.Event()

        def look() -> None:
            while not ended.wait(0.02):
                self.megabytes = max(self.megabytes, _anonymous() - before)

        thread = threading.Thread(target=look)
        thread.start()
        clock = time.perf_counter(), time.process_time()
        yield
        self.wall, self.used = time.perf_counter() - clock[0], time.process_time() - clock[1]
        ended.set()
        thread.join()


def _anonymous() -> float:
    """Return the memory of this process in megabytes, without memory maps."""
    found = re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text(encoding="ascii"))
    assert found is not None
    return int(found[1]) / 1024


def writing(count: int, folder: Path, watch: Watch) -> None:
    """Write and hash a prepared domain, then open and check it as a run does."""
    from fergen_bench.data.domain import Domain
    from fergen_bench.data.labels import EXPRESSIONS
    from fergen_bench.data.prepared import write_prepared

    random = np.random.default_rng(0)
    blocks = (
        random.integers(0, 256, (min(BLOCK, count - start), SIZE, SIZE, 3), np.uint8)
        for start in range(0, count, BLOCK)
    )
    columns = {
        "id": [f"{row:06d}" for row in range(count)],
        "expression": [EXPRESSIONS[row % 7] for row in range(count)],
        "split": ["train"] * count,
    }
    with watch.on():
        write_prepared(folder, "generated", blocks, columns, {})
    assert len(Domain(folder).faces) == count


def opening(count: int, folder: Path, watch: Watch) -> None:
    """Open a domain, read its labels, and read every image once."""
    from fergen_bench.data.domain import Domain

    _settle()
    import torch

    with watch.on():
        split = Domain(folder).split("train")
        seen = sum(len(images) for images in split.batches(torch.device("cpu"), 256))
    assert seen == count


def features(count: int, folder: Path, watch: Watch) -> None:
    """Compute the packaged encoder's features of all images into the cache."""
    import torch

    from fergen_bench.data.domain import Domain
    from fergen_bench.networks.loading import load_network

    _settle()
    with tempfile.TemporaryDirectory() as cache:
        network = load_network("synth", torch.device("cpu")).freeze(Path(cache), lambda what, done, total: None)
        with watch.on():
            found = network.cached(Domain(folder).split("train"))
    assert found.shape == (count, network.features)


def probe(count: int, folder: Path, watch: Watch) -> None:
    """Fit the linear probe with its sweep of strengths, on features of 512 numbers."""
    import torch

    from fergen_bench.training.logistic import best_strength, solve

    _settle()
    random = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 7, (count,), generator=random)
    found = 0.15 * torch.randn(7, 512, generator=random)[labels] + torch.randn(count, 512, generator=random)
    held = count // 10
    with watch.on():
        strength = best_strength(found[held:], labels[held:], found[:held], labels[:held], 7)
        solve(found.double(), labels, 7, strength)


def finding(count: int, folder: Path, watch: Watch) -> None:
    """Read and find the records of runs with five sources and three seeds of each method."""
    from report import generate

    from fergen_bench.records import counting, store

    runs = folder.with_name(f"runs{count}")
    generate(runs, count, 200)
    with watch.on():
        for entry in counting.load_all(runs)[0]:
            assert store.find(entry.spec, runs) is not None


def reporting(count: int, folder: Path, watch: Watch) -> None:
    """Compute a leaderboard with intervals and ties from those records."""
    from fergen_bench.records import counting
    from fergen_bench.records import frame as frames
    from fergen_bench.records.collection import RecordFolder
    from fergen_bench.report.statistics import Evidence
    from fergen_bench.report.tables import boards
    from fergen_bench.report.verdicts import judged

    runs = folder.with_name(f"runs{count}")
    with watch.on():
        records = frames.current(counting.load_all(runs)[0])
        evidence = Evidence(records, RecordFolder(runs))
        list(judged(boards(evidence.calibrated(frames.cells_frame(records)), "accuracy"), evidence, "accuracy"))


Work = Callable[[int, Path, Watch], None]
BY_FACES: dict[str, Work] = {
    "write and hash a domain": writing,
    "open it, read every face": opening,
    "features, small network": features,
    "linear probe with sweep": probe,
}
BY_RUNS: dict[str, Work] = {"find the records of runs": finding, "leaderboard with intervals": reporting}


def _settle() -> None:
    import torch

    torch.set_num_threads(1)


def measure(work: Work, count: int, folder: Path) -> tuple[float, float, float]:
    """Wall seconds, processor seconds, megabytes; in this very process."""
    watch = Watch()
    work(count, folder, watch)
    return watch.wall, watch.used, watch.megabytes


def exponent(sizes: list[int], values: list[float]) -> float:
    """The slope of the line through the logarithms, over the upper tenth of the range."""
    kept = [
        (math.log(size), math.log(value)) for size, value in zip(sizes, values, strict=True) if size * 10 >= sizes[-1]
    ]
    return float(np.polyfit(*zip(*kept, strict=True), 1)[0])


def main() -> None:
    """Measure all kinds of work and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, nargs="+", default=[1_000, 10_000, 30_000, 100_000, 300_000])
    parser.add_argument("--most-features", type=int, default=100_000, help="faces whose features are computed at most")
    parser.add_argument("--runs", type=int, nargs="+", default=[15, 150, 450, 1500])
    parser.add_argument("--picture", type=Path, default=Path("docs/pictures/growth.png"))
    choices = parser.parse_args()
    rows: list[tuple[str, str, int, float, float, float]] = []
    with tempfile.TemporaryDirectory() as temporary:
        for by, works, sizes in (("faces", BY_FACES, choices.faces), ("runs", BY_RUNS, choices.runs)):
            for name, work in works.items():
                for size in sizes:
                    if work is features and size > choices.most_features:
                        continue
                    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                        found = pool.submit(measure, work, size, Path(temporary, f"domain{size}")).result()
                    rows.append((name, by, size, *found))
                    wall, used, megabytes = found
                    shown = f"{wall:8.2f} s, {used:8.2f} of a processor, {megabytes:7.0f} MB"
                    print(f"{name:28} {size:8,} {by}: {shown}", flush=True)
    print(f"\n{'':28} {'exponent of time':>17} {'of memory':>10} {'per 1,000':>22}")
    for name in dict.fromkeys(row[0] for row in rows):
        mine = [row for row in rows if row[0] == name]
        sizes, used, memory = [row[2] for row in mine], [row[4] for row in mine], [max(1, row[5]) for row in mine]
        each = f"{1000 * used[-1] / sizes[-1]:.3f} s, {1000 * memory[-1] / sizes[-1]:.1f} MB"
        print(f"{name:28} {exponent(sizes, used):17.2f} {exponent(sizes, memory):10.2f} {each:>22}")
    draw(rows, choices.picture)
    print(f"\n{choices.picture}")


def draw(rows: list[tuple[str, str, int, float, float, float]], path: Path) -> None:
    """Time and memory against faces and against runs, on logarithmic axes, with a line of slope 1 to compare with."""
    import matplotlib.pyplot as plt
    import pandas as pd
    import seaborn as sns
    from matplotlib.ticker import NullFormatter

    sns.set_theme(style="whitegrid", context="notebook")
    table = pd.DataFrame(rows, columns=["work", "by", "size", "wall", "processor seconds", "megabytes"])
    table["megabytes"] = table["megabytes"].clip(lower=1)
    figure, panels = plt.subplots(2, 2, figsize=(11, 8), sharex="col")
    for column, by in enumerate(("faces", "runs")):
        part = table[table["by"] == by]
        for row, value in enumerate(("processor seconds", "megabytes")):
            panel = panels[row, column]
            sns.lineplot(
                part, x="size", y=value, hue="work", style="work", markers=True, dashes=False, ax=panel, legend=row == 0
            )
            panel.set(xscale="log", yscale="log", xlabel=by, ylabel=value)
            ends = np.array([part["size"].min(), part["size"].max()])
            top = part[value].max() * 3
            panel.plot(ends, top * ends / ends[1], color="grey", linestyle=":", linewidth=1.5)
            panel.annotate(
                "linear", (ends[1], top), (-28, -2), textcoords="offset points", ha="right", va="bottom", color="grey"
            )
            panel.xaxis.set_minor_formatter(NullFormatter())
            if row == 0:
                panel.legend(
                    title=None, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, fontsize="small", frameon=False
                )
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, bbox_inches="tight")
    plt.close(figure)


if __name__ == "__main__":
    main()

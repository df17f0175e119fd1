"""Numbers from papers, which stand apart: never ranked with measured ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from fergen_bench.error import BenchError

COLUMNS = ["method", "source", "target", "accuracy"]


@dataclass(frozen=True)
class Published:
    """A published table and what its first lines say about it."""

    name: str
    about: str
    notes: tuple[str, ...]
    cells: pd.DataFrame


def read_published(folder: Path) -> list[Published]:
    """Every table of the form method,source,target,accuracy in a folder. Lines that begin with # say where it comes
    from.
    """
    tables = []
    for path in sorted(folder.glob("*.csv")):
        lines = path.read_text(encoding="utf-8").splitlines()
        comments = [line.lstrip("# ").strip() for line in lines if line.startswith("#")]
        cells = pd.read_csv(path, comment="#")
        if not set(COLUMNS) <= set(cells):
            continue
        if not comments:
            raise BenchError(f"{path}:1: a published table begins with a line # that names its source")
        tables.append(Published(path.stem, comments[0], tuple(comments[1:]), cells))
    return tables


def read_published_ablation(folder: Path, method: str) -> tuple[str, dict[str, float]]:
    """What METHOD_ablation.csv of the form variant,target,accuracy says: its source, and the mean over targets of each
    variant (%), by our names of the variants. Nothing where there is no such file.
    """
    path = folder / f"{method}_ablation.csv"
    if not path.is_file():
        return "", {}
    about = path.read_text(encoding="utf-8").partition("\n")[0]
    if not about.startswith("#"):
        raise BenchError(f"{path}:1: a published table begins with a line # that names its source")
    means = pd.read_csv(path, comment="#").groupby("variant", sort=False).accuracy.mean()
    return about.lstrip("# ").strip(), {
        _VARIANTS.get(str(name), str(name)): float(mean) for name, mean in means.items()
    }


_VARIANTS = {"none": "no mask", "mask": "mask only", "mask+separation": "no diversity"}
"""The paper's rows, by what protocols/cafe-ablation.yaml calls them."""


def summary(published: Published) -> pd.DataFrame:
    """Means over targets, one row per method: on the source itself, on all, on others; and on others by source."""
    cells = published.cells
    rows = []
    for method, group in cells.groupby("method", sort=False):
        own, other = group[group.source == group.target], group[group.source != group.target]
        row = {
            "method": method,
            "own": own.accuracy.mean(),
            "all": group.accuracy.mean(),
            "other": other.accuracy.mean(),
        }
        rows.append(row | {source: part.accuracy.mean() for source, part in other.groupby("source", sort=False)})
    return pd.DataFrame(rows)

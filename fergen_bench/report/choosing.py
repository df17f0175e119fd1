"""Compare the settings of methods by source validation, without any target.

Accuracies on held-out faces are shares of few faces, and a training with another seed has another one. Two settings
differ significantly where their means differ by more than both kinds of noise: 1.96 standard errors of shares of
independent faces, and the 95 % reach of Student's t over the paired differences of the trainings that both have. (The
settings are in fact scored on the same faces, so the first is conservative.) With one training of each setting nothing
is called best.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fergen_bench.experiment.run import Run, percent
from fergen_bench.records.record import RunRecord
from fergen_bench.report.intervals import t_quantile
from fergen_bench.report.tables import number
from fergen_bench.wording import many

FEW = 100
"""Below this number of held-out faces, the choice of a setting is nearly random."""
HeldOut = Callable[[Run], int | None]
"""Returns the number of faces that a run held out of its source; None if unknown."""


@dataclass(frozen=True)
class Validation:
    """The settings of one split profile and one share of the data.

    Attributes:
        title: The heading of the table.
        table: A row for each method and setting, best first within its method. It contains the accuracy on held-out
            faces (%) of each source at the last epoch. `last` and `best` are the means over sources and seeds at the
            last and at the best epoch, and `error` is the standard error of `last`. `faces` are held out in all runs
            together. `error` covers these faces and, where a source has several seeds, the seeds. All settings of a
            method are means over the same trainings, see `_alike`.
        notes: Sentences printed below the table.
        answers: A sentence for each method with several settings.
    """

    title: str
    table: pd.DataFrame
    notes: list[str]
    answers: list[str]


def validation(records: Iterable[RunRecord], held_out: HeldOut = lambda spec: None) -> Iterator[Validation]:
    """Yield the comparison of each method's settings, by profile, share of the data, precision and numerics."""
    rows: dict[str, dict[str, object]] = {}
    for record in records:
        scores = [100.0 * entry["val_accuracy"] for entry in record.history if "val_accuracy" in entry]
        if scores:
            spec, faces = record.spec, held_out(record.spec)
            training = ("+".join(spec.sources), spec.adaptation_target or "", spec.seed)
            names = {"profile": spec.profile, "fraction": spec.fraction, "base_method": spec.method, "spec": spec}
            names |= {"precision": spec.precision, "numerics": spec.numerics}
            scored = {"last": scores[-1], "best": max(scores), "faces": np.nan if faces is None else faces}
            # Runs that differ in the options of scoring alone have one training.
            rows[spec.trained.key] = {**names, **dict(zip(_TRAINING, training, strict=True)), **scored}
    if not rows:
        return
    frame = pd.DataFrame(rows.values()).sort_values("fraction", ascending=False, kind="stable")
    # The share is smoothed, since a few faces may all be right by chance.
    share = (frame["last"] / 100 * frame.faces + 1) / (frame.faces + 2)
    frame["variance"] = 100**2 * share * (1 - share) / frame.faces
    conditions = ["profile", "fraction", "precision", "numerics"]
    for (profile, fraction, precision, numerics), runs in frame.groupby(conditions, sort=False):
        tables, notes, answers, over = [], list[str](), list[str](), set()
        for method, own in runs.groupby("base_method", sort=False):
            compared = list(dict.fromkeys(name for spec in own.spec for name in spec.changes))
            settings = own.assign(method=[_label(spec, compared) for spec in own.spec])
            kept, said = _alike(str(method), settings)
            notes += said
            if len(kept):
                by_row = kept.groupby(["base_method", "method"], sort=False)
                means = by_row.agg(last=("last", "mean"), best=("best", "mean"), runs=("last", "size"))
                of_faces = by_row.variance.agg(lambda v: v.sum(skipna=False)) / means.runs**2
                means["error"] = np.sqrt(of_faces + _of_seeds(kept))
                means["faces"] = by_row.faces.agg(lambda v: v.sum(skipna=False))
                by_source = kept.pivot_table(index=means.index.names, columns="source", values="last", sort=False)
                tables.append(by_source.join(means).sort_values("last", ascending=False, kind="stable"))
                over.add(frozenset(kept[_TRAINING].itertuples(index=False, name=None)))
                if len(means) > 1:
                    specs = {label: part.spec.iloc[0] for label, part in kept.groupby("method", sort=False)}
                    scores = kept.pivot_table(index=_TRAINING, columns="method", values="last")
                    noise = _noise(scores, of_faces.droplevel(0))
                    answers.append(_answer(str(method), tables[-1].droplevel(0), noise, specs, compared))
        if len(over) > 1:
            notes.append("Methods differ in sources and seeds: only rows of one method may be compared")
        title = "accuracy on held-out faces of the source (%), last epoch"
        title += "" if profile == "official" else f", {profile} splits"
        title += "" if fraction == 1 else f", {percent(fraction)} of the data"
        title += "" if precision == "fp32" else f", {precision}"
        title += "" if frame.numerics.nunique() == 1 else f", numerics {numerics}"
        empty = pd.DataFrame(columns=["last", "error", "best", "faces", "runs"])
        yield Validation(title, pd.concat(tables) if tables else empty, notes, answers)


def _label(spec: Run, compared: Sequence[str]) -> str:
    """Return the name of a setting with each parameter that differs between settings, including default values."""
    values = _values(spec, compared)
    return f"{spec.method} ({', '.join(values)})" if values else spec.method


def _values(spec: Run, names: Sequence[str]) -> list[str]:
    return [f"{name}={spec.changes.get(name, spec.parameters.get(name))}" for name in names]


def _of_seeds(runs: pd.DataFrame) -> pd.Series:
    """Return the variance of each setting's mean over its seeds; 0 where sources have one seed."""
    by_source = runs.groupby(["base_method", "method", "source", "adapted_to"], sort=False)["last"]
    of_source = (by_source.var(ddof=1) / by_source.size()).fillna(0.0)
    of_setting = of_source.groupby(level=[0, 1], sort=False)
    return of_setting.sum() / of_setting.size() ** 2


def _noise(scores: pd.DataFrame, of_faces: pd.Series) -> pd.Series:
    """Return the largest difference from the highest setting that may be chance, for each setting.

    Args:
        scores: The accuracy of each training (row) and setting (column).
        of_faces: The variance of each setting's mean over held-out faces.
    """
    top, count = scores.mean().idxmax(), len(scores)
    reach = 1.96 * np.sqrt(of_faces + of_faces[top])
    if count > 1:
        apart = scores.sub(scores[top], axis=0).std(ddof=1)
        reach = np.maximum(reach, t_quantile(0.025, count - 1) * apart / np.sqrt(count))
    return reach


def _answer(method: str, table: pd.DataFrame, reach: pd.Series, specs: dict[str, Run], compared: Sequence[str]) -> str:
    """Return a sentence that recommends one of a method's settings, with its uncertainty.

    Args:
        method: The method.
        table: Its settings, best first.
        reach: The largest difference from the best setting that may be chance, see `_noise`.
        specs: A run of each setting.
        compared: The parameters that differ between settings.
    """
    varying = [name for name in compared if len({_values(spec, [name])[0] for spec in specs.values()}) > 1]
    said = {label: ", ".join(_values(spec, varying)) for label, spec in specs.items()}
    top, default = table.index[0], next((n for n, spec in specs.items() if not {*spec.changes} & {*varying}), None)
    advice = f"use it with: {' '.join(f'--set {value}' for value in _values(specs[top], compared))}"
    if table.error.isna().any():
        why = "how many faces were held out is not known here, so nor is whether it is better than the next"
        return f"{method}, highest: {said[top]}; {why}; {advice}"
    tied = [label for label in table.index[1:] if table["last"][top] - table["last"][label] <= reach[label]]
    faces = int(table.faces.min())
    few = f". Only {many(faces, 'held-out face')}, of which one is {100 / faces:.1f} points: run more sources"
    few = few if faces < FEW else ""
    if default == top:
        advice = "it is the default"
    elif default is not None and default in tied:
        advice = f"no reason to leave the default, {said[default]}"
    if not tied and table.runs[top] < 2:
        why = "one training of each setting, and others may order them otherwise"
        return f"{method}, highest: {said[top]} ({why}); {advice}{few}"
    if not tied:
        return f"{method}, best: {said[top]}; {advice}{few}"
    others = [said[label].removeprefix(f"{varying[0]}=") if len(varying) == 1 else said[label] for label in tied]
    among = " or ".join([", ".join(others[:-1]), others[-1]] if len(others) > 1 else others)
    of = f"{many(faces, 'held-out face')} and {many(int(table.runs[top]), 'training')}"
    noise = f"differences of up to {number(max(reach[tied]))} points may be chance, with {of}"
    return f"{method}, highest: {said[top]}, not significantly different from {among} ({noise}); {advice}{few}"


def shown(suite: str, found: Validation, order: Sequence[str]) -> RenderableType:
    """Return a table of settings with its notes and answers below it.

    Args:
        suite: The name of the suite.
        found: The compared settings.
        order: The domains of the suite, in its order.
    """
    title, frame = f"{suite}: {found.title}", found.table
    if frame.empty:
        return Group(*map(Text, (title, *found.notes, "")))
    frame = frame[sorted(frame.columns, key=lambda name: order.index(name) if name in order else len(order))]
    hidden = {
        "error",
        *(["runs"] if frame.runs.nunique() == 1 else []),
        *(["faces"] if frame.faces.isna().all() else []),
    }
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("method", no_wrap=True)
    columns = [name for name in frame.columns if name not in hidden]
    for column in columns:
        names = {"last": "mean", "best": "best epoch", "faces": "held-out faces"}
        table.add_column(names.get(column, column), justify="right")
    for (_, name), row in frame.iterrows():
        # The parameters are on lines of their own, so that the numbers fit into 80 columns.
        label = str(name).replace(" (", "\n  ").replace(", ", "\n  ").removesuffix(")")
        numbers = (_number(column, row) for column in columns)
        table.add_row(Text(label), *numbers)
    sure = ["±: one standard error, over held-out faces and seeds"] if frame.error.notna().any() else []
    return Group(Text(title, "italic"), table, *(Text(line) for line in (*sure, *found.notes, *found.answers)), "")


def _number(column: str, row: pd.Series) -> str:
    if column in {"runs", "faces"}:
        return "—" if pd.isna(row[column]) else f"{row[column]:,.0f}"
    return number(row[column], row.error if column == "last" else np.nan)


_TRAINING = ["source", "adapted_to", "seed"]


def _alike(method: str, runs: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Return the runs of a method's settings that were trained on the same sources and seeds, and notes on the others.

    The sources and seeds are those that all settings share or, where none is shared by all, those that the most
    settings share. The frame is empty if fewer than two of several settings remain.
    """
    counts = runs.groupby(_TRAINING).method.transform("size")
    common = runs[counts == counts.max()]
    wanted = common[_TRAINING].drop_duplicates()
    kept = common[common.groupby("method").method.transform("size") == len(wanted)]
    settings, compared = list(dict.fromkeys(runs.method)), set(kept.method)
    if len(settings) > 1 and len(compared) < 2:
        why = f"{method}: its {many(len(settings), 'setting', 'were')} not trained on the same sources and seeds"
        return runs[:0], [f"{why}, so none is compared; run all of them with the same --sources and --seeds"]
    notes = []
    for setting in settings:
        if setting not in compared:
            own = runs[runs.method == setting][_TRAINING].assign(there=True)
            lacking = wanted.merge(own, how="left", on=_TRAINING)
            where = _trainings(lacking[lacking.there.isna()])
            notes.append(f"{setting} is left out: it was not trained on {where}, as the rows above were")
    other = runs[runs.method.isin(compared)].drop(kept.index)
    if len(other):
        notes.append(
            f"{method}: {many(len(other), 'run', 'are')} left out, as not every row was trained on {_trainings(other)}"
        )
    return kept, notes


def _trainings(runs: pd.DataFrame) -> str:
    """Return the sources and seeds of runs, such as "film, web with seed 0, 1; film with seed 2"."""
    names = runs.groupby("seed").source.agg(lambda sources: ", ".join(sorted(set(sources))))
    groups = names.groupby(names, sort=False).groups.items()
    return "; ".join(f"{sources} with seed {', '.join(map(str, seeds))}" for sources, seeds in groups)

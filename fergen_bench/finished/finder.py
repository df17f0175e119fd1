"""Find the convention of a finished model on the training images of one domain, or faults of the one that is stated.

The finder feeds the same images under the usual conventions and compares how well the outputs explain the labels: the
log-likelihood after temperature scaling, which unlike accuracy also distinguishes conventions that differ little. No
test split is read, so nothing is selected on a target.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations, product
from typing import TYPE_CHECKING, Any

import numpy as np

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.datasets.numbering import ORDERS
from fergen_bench.error import BenchError
from fergen_bench.finished.convention import COLOURS, LAYOUTS, UNUSED, Convention, Filter
from fergen_bench.finished.model import BATCH, FinishedModel, check_classes, pixels
from fergen_bench.finished.trial import (
    GROUPS,
    NORMALISATIONS,
    Fault,
    Found,
    Normalisation,
    Trial,
    described,
    differs,
    explained,
)
from fergen_bench.wording import listed, many

if TYPE_CHECKING:
    from fergen_bench.data.domain import Domain
    from fergen_bench.progress import Progress

IMAGES = 1400
"""Training images that a convention is tried on."""
SCREENED = 140
"""Images of them on which all conventions are tried; the best are tried on all."""
KEPT = 4
"""Normalisations, layouts and sizes that are tried on all images, each with its best colours."""
FILTER_MATTERS = 0.01
"""Difference in accuracy from which filters that fit about as well are named."""
COMMON = ("0 to 1", "-1 to 1", "0 to 255", "ImageNet", "CLIP")
"""Those that most models have. Another one must fit significantly better than all of these."""
COMMON_KEPT = 2
"""Common ones that such a one is compared with: those that fit best on the first images."""
SIZES = (48, 64, 96, 112, 128, 160, 224)
"""Sides that are tried where a model accepts any size."""
FILTERS: tuple[Filter, ...] = ("bilinear", "bicubic", "area", "nearest")
MARGINS = (-0.1, 0.1)
"""Margins that are tried in addition to that of the convention."""


def find_convention(
    model: FinishedModel, stated: Mapping[str, Any], domain: Domain, report: Progress | None = None
) -> Found:
    """Try the usual conventions of a model on the training images of a domain.

    Args:
        model: The model.
        stated: The fields of its convention that are known, those of its file among them.
        domain: A prepared domain. Only its train split is read.
        report: Receives the number of images on which conventions were tried.

    Raises:
        BenchError: The domain has no training images, or the classes must be stated.
    """
    search = _Search(model, stated, domain, report)
    return search.result()


class _Search:
    """One search, with the outputs of every convention that was tried."""

    def __init__(
        self, model: FinishedModel, stated: Mapping[str, Any], domain: Domain, report: Progress | None
    ) -> None:
        self._model, self._stated, self._domain, self._report = model, dict(stated), domain, report
        if not len(domain.rows("train")):
            raise BenchError(f"{domain.folder}: {domain.name} has no training images to find a convention on")
        train = domain.split("train")
        rows = np.unique(np.linspace(0, len(train) - 1, min(len(train), IMAGES)).astype(np.int64))
        order = np.random.default_rng(0).permutation(len(rows))  # many domains are sorted by class
        split = train.subset(rows[order])
        self._images = np.concatenate([pixels(split, start, start + BATCH) for start in range(0, len(split), BATCH)])
        self._labels = split.labels
        self._without_colour = bool((self._images == self._images[..., :1]).all())
        self._outputs: dict[Convention, np.ndarray] = {}
        self._resized: dict[Any, np.ndarray] = {}
        self._done, self._all = 0, 0  # images
        self._trials: list[Trial] = []
        self._screened: list[Trial] = []
        self._refused: BenchError | None = None

    def result(self) -> Found:
        """Return the result."""
        best = self._simplified(self._best())
        stated = self._exactly(self._as_stated(best.convention), best.cost)
        faults = []
        if best.beats(stated):
            faults = [
                Fault(part, described(part, stated.convention), described(part, best.convention))
                for part, names in GROUPS.items()
                if differs(best.convention, stated.convention, names)
            ]
        else:
            best = stated
        counts = np.bincount(self._labels, minlength=len(EXPRESSIONS))
        present = counts[counts > 0]
        baseline = float((present * np.log(present / counts.sum())).sum())
        trials = sorted(self._trials, key=lambda trial: -trial.score)
        alike = tuple(self._alike(best))
        about = self._domain.name, len(self._labels)
        margin = self._other_margin(best)
        return Found(*about, best, stated, tuple(faults), alike, baseline, tuple(trials), margin)

    def _other_margin(self, best: Trial) -> Trial | None:
        """Return a trial with another margin that fits significantly better, if there is one."""
        others = (replace(best.convention, margin=best.convention.margin + more) for more in MARGINS)
        trials = [self._exactly(convention, best.cost) for convention in others]
        better = max(trials, key=lambda trial: trial.score)
        return better if better.beats(best) else None

    # --------------------------------------------------------------------------------------------------- conventions

    def _best(self) -> Trial:
        """Return the best combination of layout, colours, normalisation and size, with its best filter."""
        some = slice(SCREENED)
        usual = self._model.fitting(self._stated)
        variants = self._pixel_variants(usual)
        on_all = KEPT + len(COLOURS) + len(FILTERS) + len(MARGINS)
        on_some = len(variants) + (KEPT * len(SIZES) if self._is_free("size") else 0)
        self._all = on_some * len(self._labels[some]) + on_all * len(self._labels)
        screened = [self._trial(one, some) for one in variants]
        if self._is_free("size"):
            first = _first_of_each(screened)
            screened += [self._trial(one, some) for base in first for one in self._size_variants(base.convention)]
        if all(trial.score == -np.inf for trial in screened):
            assert self._refused is not None
            raise self._refused
        self._screened = screened
        self._trials = [self._trial(trial.convention) for trial in _first_of_each(screened)]
        best = max(self._trials, key=lambda trial: trial.score)
        best = self._tried(best, [{"colour": value} for value in dict.fromkeys(one.colour for one in variants)])
        return self._tried(best, [{"filter": value} for value in FILTERS])

    def _tried(self, best: Trial, others: Sequence[Mapping[str, Any]]) -> Trial:
        """Return the best of a trial and those of the same convention with other values, on all images."""
        trials = [self._trial(replace(best.convention, **values)) for values in others]
        self._trials += trials
        return max(best, *trials, key=lambda trial: trial.score)

    def _is_free(self, part: str) -> bool:
        """Return True for a part that neither the user nor the shape of the input fixes."""
        shape = self._model.shape
        fixed = {"size": shape.height is not None and shape.width is not None, "layout": shape.layout is not None}
        return not fixed.get(part, False) and self._stated.get("range") != "uint8"

    def _pixel_variants(self, usual: Convention) -> list[Convention]:
        if usual.range == "uint8":
            return [replace(usual, colour=colour) for colour in COLOURS]
        layouts = LAYOUTS if self._is_free("layout") else (usual.layout,)
        colours = ("grey",) if usual.channels == 1 else COLOURS
        own: Normalisation = (usual.range, usual.mean, usual.deviation)
        found = {
            replace(usual, layout=layout, colour=colour, range=span, mean=mean, deviation=deviation): None
            for layout, colour, (span, mean, deviation) in product(layouts, colours, (own, *NORMALISATIONS.values()))
            if len(mean) in {1, usual.channels}
        }
        return list(found)

    def _size_variants(self, base: Convention) -> list[Convention]:
        own = self._images.shape[1:3]
        return [replace(base, size=size) for size in dict.fromkeys((own, *((side, side) for side in SIZES)))]

    def _as_stated(self, convention: Convention) -> Convention:
        """Return a convention with all that is stated."""
        fixed = self._model.fitting(self._stated)
        return replace(convention, **{name: getattr(fixed, name) for name in self._stated})

    def _simplified(self, best: Trial) -> Trial:
        """Return the best convention with every part as stated, or as usual, that makes no significant difference."""
        first = best
        for part in GROUPS:
            values = self._plainer(part, best.convention)
            plain = self._exactly(replace(best.convention, **values), best.cost)
            if not first.beats(plain):
                best = plain
        return self._common(best, first)

    def _common(self, best: Trial, first: Trial) -> Trial:
        """Return a trial with a common normalisation, unless the first trial fits significantly better than all."""
        names, own = GROUPS["normalisation"], best.convention
        common = [NORMALISATIONS[name] for name in COMMON]
        if set(names) & set(self._stated) or own.range == "uint8" or (own.range, own.mean, own.deviation) in common:
            return best
        screened = [
            trial
            for trial in self._screened
            if (trial.convention.range, trial.convention.mean, trial.convention.deviation) in common
        ]
        fields = [{name: getattr(one.convention, name) for name in names} for one in _first_of_each(screened)]
        usual = [self._exactly(replace(own, **values), best.cost) for values in fields[:COMMON_KEPT]]
        self._trials += usual
        common_one = max(usual, key=lambda trial: trial.score, default=best)
        return best if first.beats(common_one) else common_one

    def _plainer(self, part: str, convention: Convention) -> Mapping[str, Any]:
        """Return values of a part to prefer where they fit as well: the stated ones, else the usual ones."""
        names = GROUPS[part]
        if set(names) & set(self._stated):
            stated = self._as_stated(convention)
            return {name: getattr(stated, name) for name in names}
        if part == "classes":
            known = [replace(convention, classes=order) for order in _known_orders(len(convention.classes))]
            trials = [self._exactly(one, 0.0) for one in known]
            return {"classes": max(trials, key=lambda one: one.score).convention.classes} if trials else {}
        return {part: getattr(self._model.fitting({}), part)} if part in {"colour", "filter"} else {}

    def _alike(self, best: Trial) -> Iterator[tuple[str, str]]:
        """Yield the parts that are not stated, and other values that fit as well."""
        if "classes" not in self._stated:
            pairs = [pair for pair in combinations(EXPRESSIONS, 2) if not best.beats(self._exchanged(best, *pair))]
            if pairs:
                yield "classes", f"{listed((f'{one} with {other}' for one, other in pairs), 4)} exchanged"
        tried = {replace(trial.convention, classes=best.convention.classes): None for trial in self._trials}
        trials = [self._exactly(one, best.cost) for one in tried]
        for part, names in GROUPS.items():
            if part == "classes" or set(names) & set(self._stated):
                continue
            others = [
                trial
                for trial in trials
                if differs(trial.convention, best.convention, names)
                and not best.beats(trial)
                and (part != "filter" or abs(trial.accuracy - best.accuracy) >= FILTER_MATTERS)
            ]
            if others:
                others.sort(key=lambda trial: trial.accuracy)
                shares = {described(part, trial.convention): 100 * trial.accuracy for trial in others}
                best_first = sorted(shares.items(), key=lambda pair: -pair[1])
                yield part, listed((f"{value} ({share:.1f} %)" for value, share in best_first), 3)

    def _exchanged(self, best: Trial, one: str, other: str) -> Trial:
        """Return the trial of a convention in which two classes are exchanged."""
        names = {one: other, other: one}
        classes = tuple(names.get(name, name) for name in best.convention.classes)
        return self._exactly(replace(best.convention, classes=classes), best.cost)

    # -------------------------------------------------------------------------------------------------------- trials

    def _trial(self, convention: Convention, some: slice = slice(None)) -> Trial:
        """Return the trial of a convention with the order of classes that fits best, the stated one among them."""
        labels = self._labels[some]
        try:
            outputs = self._outputs_of(convention, some)
        except BenchError as error:  # the model cannot compute such pixels
            self._refused = self._refused or error
            return Trial(convention, np.full(len(labels), -np.inf), 0.0, np.zeros(len(labels), bool))
        orders = self._orders(outputs, labels)
        trials = [explained(replace(convention, classes=order), cost, outputs, labels) for order, cost in orders]
        return max(trials, key=lambda trial: trial.score)

    def _exactly(self, convention: Convention, cost: float) -> Trial:
        """Return the trial of a convention with its own order of classes, which costs nothing if it is stated."""
        free = convention.classes == self._stated.get("classes")
        return explained(convention, 0.0 if free else cost, self._outputs_of(convention), self._labels)

    def _outputs_of(self, convention: Convention, some: slice = slice(None)) -> np.ndarray:
        shown = replace(convention, classes=EXPRESSIONS, output=None)
        if self._without_colour and shown.channels == 3:
            shown = replace(shown, colour="rgb")  # the pixels are the same for all colours
        count = len(self._labels[some])
        found = [self._outputs[shown]] if shown in self._outputs else []
        done = sum(map(len, found))
        for start in range(done, count, BATCH):
            ready = self._pixels(shown, start, min(start + BATCH, count))
            found.append(self._model(shown.normalised(ready[..., ::-1] if shown.colour == "bgr" else ready)))
        self._outputs[shown] = np.concatenate(found)
        self._done += max(0, count - done)
        if self._report is not None:
            self._report("trying conventions", min(self._done, self._all), self._all)
        return self._outputs[shown][:count]

    def _pixels(self, shown: Convention, start: int, stop: int) -> np.ndarray:
        """Return resized pixels; those on which all conventions are tried are kept."""
        grey = shown.colour == "grey"
        place = (grey, shown.size, shown.filter, shown.margin, start, stop)
        if place in self._resized:
            return self._resized[place]
        plain = replace(shown, range="uint8", layout="nhwc", colour="grey" if grey else "rgb")
        ready = plain.prepare(self._images[start:stop])
        if stop <= SCREENED:
            self._resized[place] = ready
        return ready

    def _orders(self, outputs: np.ndarray, labels: np.ndarray) -> Iterator[tuple[tuple[str, ...], float]]:
        """Yield orders of classes, and the logarithm of the number of orders that each is chosen from."""
        count, seven = outputs.shape[1], len(EXPRESSIONS)
        if (stated := self._stated.get("classes")) is not None:
            check_classes(self._model, stated, count)
            yield stated, 0.0
        elif count < seven:
            raise BenchError(
                f"{self._model.value}: the model has {many(count, 'output')}, fewer than expressions; state them with "
                f"--classes"
            )
        if count < seven:
            return
        named = _known_orders(count)
        predicted = outputs.argmax(1)
        right = {
            order: sum(order[p] == EXPRESSIONS[y] for p, y in zip(predicted, labels, strict=True)) for order in named
        }
        for order in sorted(named, key=lambda order: -right[order])[:2]:
            yield order, math.log(len(named))
        free = math.lgamma(count + 1) - math.lgamma(count - seven + 1)
        yield _assigned(outputs, labels), free + math.log(2)


def _known_orders(count: int) -> list[tuple[str, ...]]:
    """Return the orders of datasets for a number of outputs, with those of labels that are counted wrong by one."""
    known = dict.fromkeys(ORDERS.values())
    named = [order for order in known if len(order) == count]
    if count == len(EXPRESSIONS) + 1:  # labels counted from 1
        named += [(UNUSED, *order) for order in known if len(order) == len(EXPRESSIONS)]
    named += [(*order[shift:], *order[:shift]) for order in known if len(order) == count for shift in (1, -1)]
    return list(dict.fromkeys(named))


def _first_of_each(trials: Sequence[Trial]) -> list[Trial]:
    """Return the best trial of each of the KEPT best conventions that differ in more than colours and classes."""
    best: dict[Convention, Trial] = {}
    for trial in sorted(trials, key=lambda trial: -trial.score):
        if trial.score > -np.inf:
            best.setdefault(replace(trial.convention, classes=EXPRESSIONS, colour="grey"), trial)
    return list(best.values())[:KEPT]


def _assigned(outputs: np.ndarray, labels: np.ndarray) -> tuple[str, ...]:
    """Return the order of classes that explains labels best: each expression has one output of its own."""
    from scipy.optimize import linear_sum_assignment

    values = outputs - outputs.max(1, keepdims=True)
    values = values / max(1e-9, float(np.median(-values))) * 2.0
    shares = values - np.log(np.exp(values).sum(1, keepdims=True))
    gains = np.stack([shares[labels == place].sum(0) for place in range(len(EXPRESSIONS))])
    _, chosen = linear_sum_assignment(-gains)
    names = [UNUSED] * outputs.shape[1]
    for place, output in enumerate(chosen):
        names[output] = EXPRESSIONS[place]
    return tuple(names)

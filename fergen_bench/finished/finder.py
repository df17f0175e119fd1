"""Find the convention of a finished model on the training images of one domain, or faults of the one that is stated.

The finder feeds the same images under the usual conventions and compares how well the outputs explain the labels: the
log-likelihood after temperature scaling, which unlike accuracy also distinguishes conventions that differ little. No
test split is read, so nothing is selected on a target.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, product
from typing import TYPE_CHECKING, Any

import numpy as np

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.datasets.numbering import ORDERS
from fergen_bench.error import BenchError
from fergen_bench.finished.convention import COLOURS, LAYOUTS, UNUSED, Convention, Filter, Range
from fergen_bench.finished.model import BATCH, FinishedModel, check_classes, pixels
from fergen_bench.metric import fit_temperature
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
SURE = 4.0
"""Standard errors by which one convention must explain the labels better than another."""
SURE_RIGHT = 2.0
"""Standard errors by which it must predict more images right, counting those that one of the two predicts right."""
SHIFT = 0.02
"""Accuracy that other pixels must gain. Less may be due to the difference between the domain and the images that the
model was trained on: a little more brightness or contrast than is right can make up for it."""
FILTER_MATTERS = 0.01
"""Difference in accuracy from which filters that fit about as well are named."""
LEAST_GAIN = 5.0
"""Nats by which it must, beyond those of its order of classes."""

Normalisation = tuple[Range, tuple[float, ...], tuple[float, ...]]
NORMALISATIONS: Mapping[str, Normalisation] = {
    "0 to 1": ("0-1", (0.0,), (1.0,)),
    "-1 to 1": ("0-1", (0.5,), (0.5,)),
    "0 to 255": ("0-255", (0.0,), (1.0,)),
    "ImageNet": ("0-1", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "CLIP": ("0-1", (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "per image": ("per-image", (0.0,), (1.0,)),
    "Caffe, VGGFace": ("0-255", (93.5940, 104.7624, 129.1863), (1.0,)),
    "Caffe, VGGFace2": ("0-255", (91.4953, 103.8827, 131.0912), (1.0,)),
    "Caffe, ImageNet": ("0-255", (103.939, 116.779, 123.68), (1.0,)),
    "face-api.js": ("0-1", (0.4815, 0.4588, 0.4090), (1.0,)),
    "-0.5 to 0.5": ("0-1", (0.5,), (1.0,)),
    "-128 to 127": ("0-255", (127.5,), (1.0,)),
}
"""Normalisations by name. Those of Caffe are for BGR."""
COMMON = ("0 to 1", "-1 to 1", "0 to 255", "ImageNet", "CLIP")
"""Those that most models have. Another one must fit significantly better than all of these."""
COMMON_KEPT = 2
"""Common ones that such a one is compared with: those that fit best on the first images."""
SIZES = (48, 64, 96, 112, 128, 160, 224)
"""Sides that are tried where a model accepts any size."""
FILTERS: tuple[Filter, ...] = ("bilinear", "bicubic", "area", "nearest")
MARGINS = (-0.1, 0.1)
"""Margins that are tried in addition to that of the convention."""

GROUPS: Mapping[str, tuple[str, ...]] = {
    "classes": ("classes",),
    "layout": ("layout",),
    "colour": ("colour",),
    "normalisation": ("range", "mean", "deviation"),
    "size": ("size",),
    "filter": ("filter",),
}
"""Parts of a convention, and the fields that belong to each."""


@dataclass(frozen=True)
class Trial:
    """A convention with what the outputs under it explain.

    Attributes:
        convention: The convention.
        likelihoods: Log-likelihood of the label of each image, float (N,), in nats.
        cost: Nats that its order of classes costs: the logarithm of the number of orders that it was chosen from.
        right: Images that are predicted right, bool (N,).
    """

    convention: Convention
    likelihoods: np.ndarray
    cost: float
    right: np.ndarray

    @property
    def score(self) -> float:
        """The log-likelihood of all labels minus the cost, in nats."""
        return float(self.likelihoods.sum()) - self.cost

    @property
    def accuracy(self) -> float:
        """The share of the images that are predicted right."""
        return float(self.right.mean())

    def beats(self, other: Trial) -> bool:
        """Return True where this convention fits significantly better than another.

        It must explain the labels better, and predict more of them right: by SHIFT, if the orders of classes are equal.
        Half the contrast may make a model less certain, and hence its errors more likely, without a better prediction.
        """
        apart = self.likelihoods - other.likelihoods
        error = apart.std(ddof=1) * math.sqrt(len(apart)) + 1e-12
        explains = self.score - other.score > LEAST_GAIN and apart.sum() / error > SURE
        only, other_only = int((self.right & ~other.right).sum()), int((other.right & ~self.right).sum())
        least = SHIFT * len(apart) if self.convention.classes == other.convention.classes else 0.0
        return bool(explains) and only - other_only > max(least, SURE_RIGHT * math.sqrt(only + other_only))


@dataclass(frozen=True)
class Fault:
    """A part of the stated convention that another value fits significantly better.

    Attributes:
        part: A key of GROUPS.
        stated: The stated value, in words.
        found: The value that fits better, in words.
    """

    part: str
    stated: str
    found: str

    def __str__(self) -> str:
        """Return the fault as part of a sentence."""
        return f"{self.part}: {self.stated} is stated, and {self.found} fits better"


@dataclass(frozen=True)
class Found:
    """The result of a search.

    Attributes:
        domain: The domain whose training images were used.
        images: Their number.
        best: The convention that fits best; parts that do not matter are as stated, or usual.
        stated: The stated convention, with what is not stated from `best`.
        faults: The parts in which the two differ.
        alike: Parts that are not stated, and other values of them that fit as well, each with its accuracy.
        baseline: The log-likelihood of the labels from their frequencies alone, in nats.
        trials: The trials on all images, best first.
        margin: A trial with another margin that fits significantly better; None if none does. It depends on how the
            faces of the domain are cropped, so it is reported and not chosen.
    """

    domain: str
    images: int
    best: Trial
    stated: Trial
    faults: tuple[Fault, ...]
    alike: tuple[tuple[str, str], ...]
    baseline: float
    trials: tuple[Trial, ...] = field(default=(), repr=False)
    margin: Trial | None = None

    @property
    def fits(self) -> bool:
        """False where the best convention explains the labels no better than their frequencies do."""
        return self.best.score > self.baseline + LEAST_GAIN

    @property
    def sentences(self) -> Iterator[str]:
        """The result in sentences; faults come first."""
        where = f"on {many(self.images, 'training image')} of {self.domain}"
        if not self.fits:
            yield (
                f"No usual convention fits {where}: the best predicts {100 * self.best.accuracy:.1f} %, and its scores "
                f"explain the labels no better than their frequencies do"
            )
            return
        for fault in self.faults:
            yield (
                f"{fault}: {100 * self.best.accuracy:.1f} % instead of {100 * self.stated.accuracy:.1f} % are right "
                f"{where}"
            )
        second = next((t for t in self.trials if t.convention != self.best.convention and self.best.beats(t)), None)
        behind = "" if second is None else f"; the next different one: {100 * second.accuracy:.1f} %"
        classes = _described("classes", self.best.convention)
        yield (
            f"The convention that fits best {where}: {self.best.convention}; classes {classes}; "
            f"{100 * self.best.accuracy:.1f} %{behind}"
        )
        for part, values in self.alike:
            yield f"Ambiguous: {part}: {values} would fit about as well"
        if self.margin is not None:
            yield (
                f"With a margin of {self.margin.convention.margin:+g}, {100 * self.margin.accuracy:.1f} % are right: "
                f"the faces of {self.domain} seem to be cropped otherwise than those that the model was trained on"
            )


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
        train = domain.split("train")
        if not len(train):
            raise BenchError(f"{domain.folder}: {domain.name} has no training images to find a convention on")
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
                Fault(part, _described(part, stated.convention), _described(part, best.convention))
                for part, names in GROUPS.items()
                if _differs(best.convention, stated.convention, names)
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
                if _differs(trial.convention, best.convention, names)
                and not best.beats(trial)
                and (part != "filter" or abs(trial.accuracy - best.accuracy) >= FILTER_MATTERS)
            ]
            if others:
                others.sort(key=lambda trial: trial.accuracy)
                shares = {_described(part, trial.convention): 100 * trial.accuracy for trial in others}
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
        trials = [_explained(replace(convention, classes=order), cost, outputs, labels) for order, cost in orders]
        return max(trials, key=lambda trial: trial.score)

    def _exactly(self, convention: Convention, cost: float) -> Trial:
        """Return the trial of a convention with its own order of classes, which costs nothing if it is stated."""
        free = convention.classes == self._stated.get("classes")
        return _explained(convention, 0.0 if free else cost, self._outputs_of(convention), self._labels)

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
            check_classes(self._model, replace(Convention(), classes=stated), count)
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


def _differs(one: Convention, other: Convention, names: Sequence[str]) -> bool:
    return any(getattr(one, name) != getattr(other, name) for name in names)


def _described(part: str, convention: Convention) -> str:
    """Return a part of a convention in words."""
    if part == "classes":
        named = next((name for name, order in ORDERS.items() if order == convention.classes), "")
        order = ",".join(name or "-" for name in convention.classes)
        return f"{order} (as {named})" if named else order
    if part == "normalisation":
        own = (convention.range, convention.mean, convention.deviation)
        named = next((name for name, values in NORMALISATIONS.items() if values == own), "")
        mean, deviation = (" ".join(f"{v:g}" for v in values) for values in own[1:])
        return named or f"{own[0]}, mean {mean}, deviation {deviation}"
    if part == "size":
        return "any size" if convention.size is None else "{} x {}".format(*convention.size)
    return str(getattr(convention, part))


def _explained(convention: Convention, cost: float, outputs: np.ndarray, labels: np.ndarray) -> Trial:
    """Return a trial: how well outputs explain labels under a convention, after temperature scaling."""
    logits = convention.logits(outputs).astype(np.float64)
    scale = max(1e-9, float(np.median(logits.max(1) - np.median(logits, 1))))
    logits = logits / scale * 4.0  # within the reach of `fit_temperature`, whatever the scale of the outputs
    logits = np.maximum(logits, logits.max(1, keepdims=True) - 60.0)
    logits /= fit_temperature(logits, labels)
    shifted = logits - logits.max(1, keepdims=True)
    likelihoods = shifted[np.arange(len(labels)), labels] - np.log(np.exp(shifted).sum(1))
    return Trial(convention, likelihoods, cost, logits.argmax(1) == labels)


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

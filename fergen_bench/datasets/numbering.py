"""Labels that are numbers: what a numbering means, and when the one that is assumed is not the one that is there.

Every dataset numbers the expressions in an order of its own, from 0 or from 1, and packs number them anew. A numbering
is never guessed: it is the dataset's own or the one that the user names. What is found is held against it, by the
numbers that occur and by their counts per class, and refused with the likely numbering where they differ.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.error import BenchError, did_you_mean

if TYPE_CHECKING:
    from fergen_bench.datasets.settings import DomainSettings

CONTEMPT = "contempt"
LEFT_OUT = ""
ORDERS: Mapping[str, tuple[str, ...]] = {
    "rafdb": EXPRESSIONS,
    "affectnet": ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", CONTEMPT),
    "fer2013": ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"),
    "ferplus": ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", CONTEMPT),
    "ckplus": ("neutral", "anger", CONTEMPT, "disgust", "fear", "happiness", "sadness", "surprise"),
    "alphabetical": ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"),
    "alphabetical-8": ("anger", CONTEMPT, "disgust", "fear", "happiness", "neutral", "sadness", "surprise"),
}
"""Orders in which expressions are numbered; the alphabetical ones are those of class folders read by a program."""
BASES = {"0-based": 0, "1-based": 1}
ENOUGH = 200
"""Faces below which counts per class prove nothing."""

OTHER = "another order"
Labels = Mapping[str, str]
Counts = Mapping[str, Mapping[str, int]]


class LabelMap(dict[str, str]):
    """native label → expression. own: what the dataset's own numbers mean, whatever the user's map says."""

    own: Mapping[str, str]


class UnknownNumbers(BenchError):
    """Labels that are numbers, of which one means nothing in the numbering that is assumed.

    place: where that one stands. found: split → native label → faces. own: what the dataset's numbers mean.
    """

    def __init__(
        self,
        native: str,
        place: str,
        found: Counts,
        own: Labels,
        title: str = "this layout",
        expected: Counts | None = None,
    ) -> None:
        self.native, self.place, self.found, self.own = native, place, found, own
        natives = _numbers(found) | {native}
        fault = f"{place}: {native!r} is no expression here; "
        if own:
            fault += f"the labels of {title} are {_spelled(own)} ({_meanings(own)}), those here {_spelled(natives)}"
        else:
            fault += f"the labels here are numbers ({_spelled(natives)}), whose order is not known"
        super().__init__(fault + _next_step(natives, own, _by_counts(found, own, own, expected or {})))

    def of(self, title: str, expected: Counts) -> UnknownNumbers:
        """The same, said with what is known of the dataset."""
        return UnknownNumbers(self.native, self.place, self.found, self.own, title, expected)


def plain(native: str) -> str:
    """A label without blanks around it; a whole number without leading zeros and decimals: 3 for 03 and 3.0."""
    text = native.strip()
    whole = text.removesuffix(".0")
    return str(int(whole)) if whole.isascii() and whole.isdecimal() else text


def is_number(native: str) -> bool:
    return native.isascii() and native.isdecimal()


def label_map(official: Labels, settings: DomainSettings) -> LabelMap:
    """A dataset's own labels, numbered as the settings say, and the user's map before them."""
    labels = dict(official)
    if settings.numbering is not None:
        labels = {native: meant for native, meant in labels.items() if not is_number(native)}
        labels |= _named(settings.numbering, official)
    used = LabelMap({**labels, **settings.labels})
    used.own = {native: meant for native, meant in labels.items() if is_number(native)}
    return used


def own_numbers(used: Labels) -> Labels:
    """What the numbers of a dataset mean, apart from the user's map."""
    return used.own if isinstance(used, LabelMap) else {}


def _named(name: str, official: Labels) -> dict[str, str]:
    """The numbering of a name: an order and where it begins, such as affectnet-0-based; 1-based alone: the own."""
    known = {f"{order}-{base}": (names, first) for order, names in ORDERS.items() for base, first in BASES.items()}
    if own := _order_of(official):
        known |= {base: (own, first) for base, first in BASES.items()}
    if name not in known:
        raise BenchError(
            f"numbering: {name!r} names no numbering{did_you_mean(name, known)}; known: {', '.join(known)}"
        )
    names, first = known[name]
    return _numbered(names, first)


def _numbered(names: Iterable[str], first: int) -> dict[str, str]:
    """first, first + 1, … → names; contempt is left out."""
    return {str(place): name if name in EXPRESSIONS else LEFT_OUT for place, name in enumerate(names, start=first)}


def _order_of(official: Labels) -> tuple[str, ...]:
    """What the numbers of a map mean, in their order."""
    return tuple(official[native] for native in sorted(filter(is_number, official), key=int))


def check_numbers(
    place: str, title: str, found: Counts, used: Labels, expected: Counts, settings: DomainSettings
) -> None:
    """Refuses labels that are numbers where the user says what some of them mean, but not all; where they count from
    another base than the dataset's own; and where their counts per class are the dataset's in another order.
    """
    natives, own = _numbers(found), own_numbers(used)
    said = set(filter(is_number, settings.labels))
    if not natives or natives <= said:
        return
    likely = _by_counts(found, own, used, expected)
    fault = f"{place}: the labels here are numbers ({_spelled(natives)})"
    if said and settings.numbering is None:
        fault += f", and the map says what {_listed(said)} means; the other numbers would keep their meaning"
        fault += f" in {title} ({_meanings(own)})" * bool(own)
    elif likely is not None or (
        settings.numbering is None and own and len(natives) >= len(EXPRESSIONS) and _least(natives) != _least(own)
    ):
        fault += f", those of {title} {_spelled(own)} ({_meanings(own)})"
    else:
        return
    raise BenchError(fault + _next_step(natives, own, likely))


def _next_step(natives: set[str], own: Labels, likely: str | None) -> str:
    """How the user says what numbers mean. No advice maps some of them and leaves the others as they are."""
    keys = " (options of data prepare, keys of bench.toml)"
    every = f"set labels to what every one of them means: {','.join(f'{number}=…' for number in _sorted(natives))}"
    if likely == OTHER:
        return f". The counts of every class are those of the dataset in another order; {every}{keys}"
    if likely is not None:
        return f". By the counts of every class they are numbered {likely}; set numbering to {likely}{keys}"
    if not own:
        return f"; set numbering to a known order, such as rafdb-1-based, or {every}{keys}"
    order = _order_of(own)
    for base, first in BASES.items():
        if natives <= (numbers := _numbered(order, first)).keys() and numbers != dict(own):
            return f". If their order is the same, counted from {first}, set numbering to {base}; if not, {every}{keys}"
    return f"; {every}{keys}"


def _by_counts(found: Counts, own: Labels, used: Labels, expected: Counts) -> str | None:
    """The name of the one numbering by which the counts per class are a dataset's, where by what labels are taken to
    mean they are far from them; OTHER where none with a name is it. None without evidence.
    """
    pairs, faces = _comparable(found, expected), sum(sum(counts.values()) for counts in found.values())
    if not pairs or not own or faces < ENOUGH:
        return None
    alike = 0.02 + 0.6 / faces**0.5  # what chance moves, in a share of the copy that is drawn at random
    if _distance(pairs, used) < 3 * alike:
        return None
    order, natives = _order_of(own), _sorted(_numbers(found))
    named = {base: _numbered(order, first) for base, first in BASES.items()}
    named |= {f"{name}-{base}": _numbered(o, first) for name, o in ORDERS.items() for base, first in BASES.items()}
    distances: dict[tuple[str, ...], tuple[float, str]] = {}
    for name, labels in named.items():
        if any(meant != LEFT_OUT and native not in natives for native, meant in labels.items()):
            continue  # an expression of which there is no face
        meant = tuple(labels.get(native, "?") for native in natives)
        distances.setdefault(meant, (_distance(pairs, labels), name))
    (best, name), (second, _) = sorted([*distances.values(), (1.0, ""), (1.0, "")])[:2]
    if best <= alike and second >= max(2 * alike, 3 * best):
        return name
    return OTHER if _distance_of_shapes(pairs) <= alike else None


def _comparable(found: Counts, expected: Counts) -> list[tuple[Mapping[str, int], Mapping[str, int]]]:
    """(counts by number, counts by expression) of the splits that both have, or of all faces where splits differ."""
    known = {split: counts for split, counts in expected.items() if "all" not in counts}
    if not known or not found:
        return []
    if set(found) <= set(known):
        return [(found[split], known[split]) for split in found]
    return [(_summed(found), _summed(known))]


def _summed(counts: Counts) -> Counter[str]:
    return sum((Counter(part) for part in counts.values()), Counter())


def _distance(pairs: Iterable[tuple[Mapping[str, int], Mapping[str, int]]], labels: Labels) -> float:
    """The share of faces that a numbering puts into other classes than are expected; 1 where a number means nothing."""
    far, faces = 0.0, 0
    for found, expected in pairs:
        shares: Counter[str] = Counter()
        for native, count in found.items():
            if native not in labels:
                return 1.0
            if (meant := labels[native]) != LEFT_OUT:
                shares[meant] += count
        here, there = shares.total(), sum(expected.values())
        far += here * sum(abs(shares[name] / max(1, here) - expected.get(name, 0) / there) for name in EXPRESSIONS) / 2
        faces += here
    return far / faces if faces else 1.0


def _distance_of_shapes(pairs: Iterable[tuple[Mapping[str, int], Mapping[str, int]]]) -> float:
    """The same of the order of classes that fits best, whatever the numbers mean."""
    largest: list[tuple[Mapping[str, int], Mapping[str, int]]] = []
    for found, expected in pairs:
        here = sorted(found.values(), reverse=True)[: len(EXPRESSIONS)]
        ranks = dict(zip(map(str, range(len(here))), here, strict=True))
        names = sorted(EXPRESSIONS, key=lambda name: -expected.get(name, 0))
        largest.append(({names[int(rank)]: count for rank, count in ranks.items()}, expected))
    return _distance(largest, {name: name for name in EXPRESSIONS})


def _numbers(found: Counts) -> set[str]:
    """The labels that are numbers."""
    return {native for counts in found.values() for native in counts if is_number(native)}


def _sorted(numbers: Iterable[str]) -> list[str]:
    return sorted(numbers, key=int)


def _spelled(numbers: Iterable[str]) -> str:
    """0 to 6, or each of them where some between are not there."""
    order = _sorted(numbers)
    whole = int(order[-1]) - int(order[0]) == len(order) - 1
    return f"{order[0]} to {order[-1]}" if whole and len(order) > 2 else _listed(order)


def _least(numbers: Iterable[str]) -> int:
    return min(map(int, numbers))


def _listed(numbers: Iterable[str]) -> str:
    return ", ".join(_sorted(numbers))


def _meanings(labels: Labels) -> str:
    return ", ".join(f"{number} {labels[number] or 'left out'}" for number in _sorted(labels))

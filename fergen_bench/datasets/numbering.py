"""Interpret labels that are numbers, and refuse numbers that do not fit the assumed numbering.

Every dataset numbers the expressions in an order of its own, from 0 or from 1, and packs renumber them. A numbering is
never guessed: it is the dataset's own or the one that the user names. The numbers that occur, and their counts per
class, are compared with it; where they differ, the error names the likely numbering.
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
    "affectnet-7": ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger"),
    "fer2013": ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"),
    "ferplus": ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", CONTEMPT),
    "ckplus": ("neutral", "anger", CONTEMPT, "disgust", "fear", "happiness", "sadness", "surprise"),
    "alphabetical": ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"),
    "alphabetical-8": ("anger", CONTEMPT, "disgust", "fear", "happiness", "neutral", "sadness", "surprise"),
}
"""Name → order in which expressions are numbered. The alphabetical orders are those of class folders."""
BASES = {"0-based": 0, "1-based": 1}
ENOUGH = 200
"""Number of faces below which counts per class prove nothing."""

OTHER = "another order"
Labels = Mapping[str, str]
Counts = Mapping[str, Mapping[str, int]]


class LabelMap(dict[str, str]):
    """Native label → expression.

    Attributes:
        own: The meaning of the dataset's own numbers, without the user's map.
    """

    own: Mapping[str, str]


class UnknownNumbers(BenchError):
    """Labels are numbers, and one of them has no meaning in the assumed numbering.

    Attributes:
        native: That number.
        place: Its file and line.
        found: Split → native label → faces.
        own: The meaning of the dataset's own numbers.
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
        fault = f"{place}: {native!r} is not a known expression; "
        if own:
            fault += f"the labels of {title} are {spelled(own)} ({_meanings(own)}), those here {spelled(natives)}"
        else:
            fault += f"the labels here are numbers ({spelled(natives)}), whose order is unknown"
        super().__init__(fault + next_step(natives, own, _by_counts(found, own, own, expected or {})))

    def of(self, title: str, expected: Counts) -> UnknownNumbers:
        """Return the error with what is known of the dataset."""
        return UnknownNumbers(self.native, self.place, self.found, self.own, title, expected)


def plain(native: str) -> str:
    """Return a label without surrounding blanks, and a whole number without leading zeros and decimals.

    For example, 03 and 3.0 become 3.
    """
    text = native.strip()
    whole = text.removesuffix(".0")
    return str(int(whole)) if whole.isascii() and whole.isdecimal() else text


def is_number(native: str) -> bool:
    """Return True for a label of decimal digits."""
    return native.isascii() and native.isdecimal()


def label_map(official: Labels, settings: DomainSettings) -> LabelMap:
    """Return native label → expression: the dataset's labels, renumbered by the settings, under the user's map.

    Args:
        official: The dataset's own labels.
        settings: The choices of the user.

    Raises:
        BenchError: The numbering is unknown.
    """
    labels = dict(official)
    if settings.numbering is not None:
        labels = {native: meant for native, meant in labels.items() if not is_number(native)}
        labels |= _named(settings.numbering, official)
    used = LabelMap({**labels, **settings.labels})
    used.own = {native: meant for native, meant in labels.items() if is_number(native)}
    return used


def own_numbers(used: Labels) -> Labels:
    """Return the meaning of the dataset's own numbers, without the user's map."""
    return used.own if isinstance(used, LabelMap) else {}


def _named(name: str, official: Labels) -> dict[str, str]:
    """Return the numbering of a name: an order and a base, such as affectnet-0-based.

    A base alone, such as 1-based, means the dataset's order.
    """
    known = {f"{order}-{base}": (names, first) for order, names in ORDERS.items() for base, first in BASES.items()}
    if own := _order_of(official):
        known |= {base: (own, first) for base, first in BASES.items()}
    if name not in known:
        raise BenchError(
            f"numbering: {name!r} is not a known numbering{did_you_mean(name, known)}; known: {', '.join(known)}"
        )
    names, first = known[name]
    return _numbered(names, first)


def _numbered(names: Iterable[str], first: int) -> dict[str, str]:
    """Return number → name from `first` on, with contempt left out."""
    return {str(number): name if name in EXPRESSIONS else LEFT_OUT for number, name in enumerate(names, start=first)}


def _order_of(official: Labels) -> tuple[str, ...]:
    """Return the meanings of the numbers of a map, in the order of the numbers."""
    return tuple(official[native] for native in sorted(filter(is_number, official), key=int))


def check_numbers(
    place: str, title: str, found: Counts, used: Labels, expected: Counts, settings: DomainSettings
) -> None:
    """Refuse numeric labels that do not fit the numbering by which they are read.

    Args:
        place: The folder, for the error.
        title: Name of the dataset.
        found: Split → native label → faces.
        used: Native label → expression, as it was used.
        expected: Counts of the dataset.
        settings: The choices of the user.

    Raises:
        BenchError: The user maps some numbers but not all, the numbers have another base than the dataset's own, or
            their counts per class are the dataset's in another order.
    """
    natives, own = _numbers(found), own_numbers(used)
    mapped = set(filter(is_number, settings.labels))
    if not natives or natives <= mapped:
        return
    likely = _by_counts(found, own, used, expected)
    fault = f"{place}: the labels here are numbers ({spelled(natives)})"
    if mapped and settings.numbering is None:
        fault += (
            f", and the map gives the meaning of {_listed(mapped)} only; the other numbers would retain their meaning"
        )
        fault += f" in {title} ({_meanings(own)})" * bool(own)
    elif likely is not None or (
        settings.numbering is None and own and len(natives) >= len(EXPRESSIONS) and _least(natives) != _least(own)
    ):
        fault += f", those of {title} {spelled(own)} ({_meanings(own)})"
    else:
        return
    raise BenchError(fault + next_step(natives, own, likely))


def next_step(natives: set[str], own: Labels, likely: str | None = None) -> str:
    """Return the end of a sentence with the advice to the user. It never maps some numbers and leaves the others.

    Args:
        natives: The labels that were found, numbers.
        own: The meaning of the dataset's own numbers.
        likely: The numbering to which the counts per class point.
    """
    keys = " (options of data prepare, keys of bench.toml)"
    every = f"set labels to the meaning of every one of them: {','.join(f'{number}=…' for number in _sorted(natives))}"
    if likely == OTHER:
        return f". The counts of every class are those of the dataset in another order: {every}{keys}"
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
    """Return the name of the only numbering under which the counts per class are the dataset's.

    Returns:
        None where the counts fit the used labels already, or prove nothing; OTHER where they fit an order without a
        name.
    """
    pairs, faces = _comparable(found, expected), sum(sum(counts.values()) for counts in found.values())
    if not pairs or not own or faces < ENOUGH:
        return None
    alike = 0.02 + 0.6 / faces**0.5  # the effect of chance in a random part of the copy
    if _distance(pairs, used) < 3 * alike:
        return None
    order, natives = _order_of(own), _sorted(_numbers(found))
    named = {base: _numbered(order, first) for base, first in BASES.items()}
    named |= {f"{name}-{base}": _numbered(o, first) for name, o in ORDERS.items() for base, first in BASES.items()}
    distances: dict[tuple[str, ...], tuple[float, str]] = {}
    for name, labels in named.items():
        if any(meant != LEFT_OUT and native not in natives for native, meant in labels.items()):
            continue  # an expression without faces
        meant = tuple(labels.get(native, "?") for native in natives)
        distances.setdefault(meant, (_distance(pairs, labels), name))
    (best, name), (second, _) = sorted([*distances.values(), (1.0, ""), (1.0, "")])[:2]
    if best <= alike and second >= max(2 * alike, 3 * best):
        return name
    return OTHER if _distance_of_shapes(pairs) <= alike else None


def _comparable(found: Counts, expected: Counts) -> list[tuple[Mapping[str, int], Mapping[str, int]]]:
    """Return (counts by number, counts by expression) of the common splits, or of all faces where splits differ."""
    known = {split: counts for split, counts in expected.items() if "all" not in counts}
    if not known or not found:
        return []
    if set(found) <= set(known):
        return [(found[split], known[split]) for split in found]
    return [(_summed(found), _summed(known))]


def _summed(counts: Counts) -> Counter[str]:
    return sum((Counter(part) for part in counts.values()), Counter())


def _distance(pairs: Iterable[tuple[Mapping[str, int], Mapping[str, int]]], labels: Labels) -> float:
    """Return the share of faces in other classes than expected under a numbering; 1 where a number lacks a meaning."""
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
    """Return the distance under the order of classes that fits best, whatever the numbers mean."""
    largest: list[tuple[Mapping[str, int], Mapping[str, int]]] = []
    for found, expected in pairs:
        here = sorted(found.values(), reverse=True)[: len(EXPRESSIONS)]
        ranks = dict(zip(map(str, range(len(here))), here, strict=True))
        names = sorted(EXPRESSIONS, key=lambda name: -expected.get(name, 0))
        largest.append(({names[int(rank)]: count for rank, count in ranks.items()}, expected))
    return _distance(largest, {name: name for name in EXPRESSIONS})


def _numbers(found: Counts) -> set[str]:
    """Return the labels that are numbers."""
    return {native for counts in found.values() for native in counts if is_number(native)}


def _sorted(numbers: Iterable[str]) -> list[str]:
    return sorted(numbers, key=int)


def spelled(numbers: Iterable[str]) -> str:
    """Return numbers as 0 to 6, or each of them where some in between are missing."""
    order = _sorted(numbers)
    whole = int(order[-1]) - int(order[0]) == len(order) - 1
    return f"{order[0]} to {order[-1]}" if whole and len(order) > 2 else _listed(order)


def _least(numbers: Iterable[str]) -> int:
    return min(map(int, numbers))


def _listed(numbers: Iterable[str]) -> str:
    return ", ".join(_sorted(numbers))


def _meanings(labels: Labels) -> str:
    return ", ".join(f"{number} {labels[number] or 'left out'}" for number in _sorted(labels))

"""Describe the data behind a table: a line for each domain, and the records left out since they use other data.

All records of one suite in one table share the state of each domain, see `record.current`. A domain is described by its
facts in the newest of these records.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import pandas as pd
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fergen_bench.data.facts import DataFacts
from fergen_bench.data.labels import SPLITS
from fergen_bench.records.record import RunRecord
from fergen_bench.wording import listed, many

NOT_RECORDED = "not recorded"


@dataclass(frozen=True)
class Described:
    """A domain of a table.

    Attributes:
        fingerprint: The state of its images and labels.
        facts: None in records of early versions.
        scored: The number of scored faces: one number, or two where a split profile differs between sources.
    """

    fingerprint: str
    facts: DataFacts | None
    scored: tuple[int, ...]

    @property
    def train(self) -> int | None:
        """Return the number of training faces; None without facts."""
        return None if self.facts is None else self.facts.counts.get("train", 0)


Data = Mapping[str, Described]
"""The domains of a table, by name, in the order of the suite."""


def described(records: Iterable[RunRecord]) -> dict[str, Described]:
    """Return the domains of records that are in one table."""
    found: dict[str, Described] = {}
    for record in sorted(records, key=lambda entry: entry.started, reverse=True):
        for name, fingerprint in {**record.spec.targets, **record.spec.fingerprints}.items():
            here = found.setdefault(name, Described(fingerprint, None, ()))
            facts = record.data.get(name) if here.fingerprint == fingerprint else None
            if facts is None:
                continue
            count = facts.scored_faces
            scored = here.scored if count is None else tuple(sorted({*here.scored, count}))
            found[name] = replace(here, facts=facts if here.facts is None else here.facts, scored=scored)
    return found


def filled(
    records: Iterable[RunRecord], at_hand: Callable[[str, str, RunRecord], tuple[str, DataFacts] | None]
) -> list[RunRecord]:
    """Return the records; those of early versions, without facts, get the facts of the same faces on this machine.

    Args:
        records: The records as loaded.
        at_hand: Maps the suite, the name of a domain and the record to the fingerprint and facts of the prepared
            domain.
    """
    found = []
    for record in records:
        states, data = {**record.spec.targets, **record.spec.fingerprints}, {}
        for name in states if not record.data else ():
            here = at_hand(record.spec.suite, name, record)
            if here is not None and here[0] == states[name]:
                data[name] = here[1]
        found.append(replace(record, data=data) if data else record)
    return found


# ------------------------------------------------------------------------------------------------------------ the block

HEAD = ("domain", "dataset", "layout", "copy", "labels", "faces", "train", "scored")


_LABELS = HEAD.index("labels")


def rows(data: Data) -> list[list[str]]:
    """Return a line for each domain, with columns in the order of HEAD."""
    found = []
    for name, one in data.items():
        facts = one.facts
        if facts is None:
            found.append([name, NOT_RECORDED, *["—"] * (len(HEAD) - 2)])
            continue
        texts = (facts.dataset, facts.layout, facts.copy, facts.labels, facts.pixels, _count(one.train))
        found.append([name, *(text or "—" for text in texts), _scored(one)])
    return found


def _count(number: int | None) -> str:
    return f"{number:,}" if number else "—"


def _scored(one: Described) -> str:
    return " or ".join(f"{number:,}" for number in one.scored) or "—"


def synthetic_line(data: Data) -> str:
    """Return one sentence about rendered domains, which differ only in their numbers of faces."""
    known = [one for one in data.values() if one.facts is not None]
    if not known:
        return f"Data: {NOT_RECORDED}"
    kinds = dict.fromkeys(f"{one.facts.layout}, {one.facts.pixels}" for one in known if one.facts is not None)
    trained, scored = ({n for one in known for n in numbers(one)} for numbers in (_trained, lambda one: one.scored))
    return f"Data: {'; '.join(kinds)}; {_range(trained)} faces to train on, {_range(scored)} scored"


def _trained(one: Described) -> Sequence[int]:
    return () if one.train is None else (one.train,)


def _range(numbers: set[int]) -> str:
    if not numbers:
        return "no"
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def block(data: Data, synthetic: bool) -> RenderableType:
    """Return the domains of a table for a terminal, one line each in 80 columns unless their names are long."""
    if synthetic:
        return Text(synthetic_line(data), style="dim")
    if all(one.facts is None for one in data.values()):
        return Text(f"Data: {NOT_RECORDED} by these records; with --rerun new ones have it", style="dim")
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, style="dim", header_style="dim")
    # A few words are enough to distinguish label rules; the files and the page have the rest.
    short = {name: one.facts.short_labels for name, one in data.items() if one.facts is not None}
    lines = [[*row[:_LABELS], short.get(row[0]) or "—", *row[_LABELS + 1 :]] for row in rows(data)]
    # The name of a layout contains that of the dataset, as do the names of most domains.
    kept = [place for place, name in enumerate(HEAD) if name == "domain" or _says_more(name, lines, place)]
    for place in kept:
        justify: Literal["left", "right"] = "right" if HEAD[place] in {"train", "scored"} else "left"
        table.add_column(HEAD[place], justify=justify, overflow="fold", style="dim")
    for line in lines:
        table.add_row(*(Text(line[place]) for place in kept))
    return Group(Text("Data", style="dim"), table)


def _says_more(name: str, lines: Sequence[Sequence[str]], place: int) -> bool:
    """Return True for a column with a value; the dataset must also differ from the domain's name."""
    if name == "dataset":
        return any(line[place] not in {line[0], "—"} for line in lines)
    return any(line[place] != "—" for line in lines)


def lines(data: Data, synthetic: bool) -> list[str]:
    """Return the block as sentences, one per domain."""
    if not data or synthetic:
        return [synthetic_line(data)] if data else []
    head = [name if name in {"train", "scored"} else "" for name in HEAD]
    found = []
    for name, *texts in rows(data):
        pairs = zip(head[1:], texts, strict=True)
        found.append(f"Data of {name}: " + ", ".join(f"{word} {text}".strip() for word, text in pairs if text != "—"))
    return found


def remarks(data: Data) -> list[str]:
    """Return the properties of the data that most readers do not expect, for a caption."""
    found = []
    for name, one in data.items():
        facts = one.facts
        if facts is None:
            continue
        words = [facts.labels, "incomplete copy" if facts.complete is False else ""]
        words += [f"margin {100 * facts.margin:g} %" if facts.margin else "", "BGR" if facts.bgr else ""]
        if said := ", ".join(filter(None, words)):
            found.append(f"{name}: {said}")
    return found


def cautions(data: Data) -> list[str]:
    """Return sentences on data that may mislead a reader."""
    found = []
    rules: dict[str, dict[str, list[str]]] = {}
    for name, one in data.items():
        facts = one.facts
        if facts is None:
            continue
        if facts.complete is False:
            found.append(f"{name} differs from the dataset that its owner distributes: {facts.differs}")
        if facts.left_out:
            missing = many(facts.left_out, "file", "were")
            found.append(f"{missing} of {name} left out, because they were missing or could not be read")
        if facts.bgr:
            found.append(f"{name} has its colour channels reversed (BGR), as it was prepared with emulate_bgr")
        if facts.label_rule:
            rules.setdefault(facts.dataset, {}).setdefault(facts.label_rule, []).append(name)
    for dataset, by_rule in rules.items():
        if len(by_rule) > 1:
            said = "; ".join(f"{', '.join(names)}: {rule}" for rule, names in by_rule.items())
            found.append(
                f"{len(by_rule)} label rules of {dataset} stand side by side ({said}): these domains are different "
                f"targets"
            )
    return found


def frame(tables: Iterable[tuple[str, str, Data]]) -> pd.DataFrame:
    """Return all domains as a frame, for data.csv.

    Args:
        tables: The suite, split profile and domains of each table.
    """
    lines: dict[tuple[str, str, str], dict[str, object]] = {}
    for suite, profile, data in tables:
        for name, one in data.items():
            facts = DataFacts() if one.facts is None else one.facts
            known = one.facts is not None
            lines[suite, profile, name] = {
                "suite": suite,
                "profile": profile,
                "domain": name,
                "fingerprint": one.fingerprint,
                "recorded": known,
                "dataset": facts.dataset,
                "layout": facts.layout,
                "complete": facts.complete,
                "differs": facts.differs,
                "files_left_out": facts.left_out if known else None,
                "label_rule": facts.label_rule,
                "label_source": facts.label_source,
                "label_map": "; ".join(f"{native}={label}" for native, label in facts.label_map.items()),
                "splits": facts.splits,
                "height": facts.size[0] if known else None,
                "width": facts.size[1] if known else None,
                "crop": facts.crop,
                "margin": facts.margin if known else None,
                "colours": ("BGR" if facts.bgr else "RGB") if known else "",
                "resizer": facts.resizer,
                **{part: facts.counts.get(part, 0) if known else None for part in SPLITS},
                "scored": " or ".join(map(str, one.scored)),
                "single_annotator": facts.annotator,
            }
    return pd.DataFrame(list(lines.values()))


# ------------------------------------------------------------------------------------------------ records of other data


def superseded(records: Sequence[RunRecord], kept: Sequence[RunRecord]) -> dict[str, list[RunRecord]]:
    """Return the records that are left out of all tables, in whole or in part, by a sentence with the reason.

    Args:
        records: The records of a suite, as loaded.
        kept: Those of them that are current, see `record.current`.
    """
    newest = _newest(records)
    current = {record.spec.key for record in kept}
    whole: dict[tuple[str, str, bool], list[RunRecord]] = {}
    cells: dict[tuple[str, str], list[RunRecord]] = {}
    for record in records:
        spec = record.spec
        of = {name: newest[spec.suite, spec.profile, name] for name in {**spec.targets, **spec.fingerprints}}
        if spec.key in current:
            for name in [cell.target for cell in record.cells if cell.fingerprint != of[cell.target][0]]:
                cells.setdefault((name, _how(name, record, of[name][1])), []).append(record)
        else:
            stale = next((name for name, was in spec.fingerprints.items() if of[name][0] != was), "")
            how = _how(stale, record, of[stale][1]) if stale else ""
            whole.setdefault((stale, how, spec.exposure is not None and not stale), []).append(record)
    found = {}
    for (name, how, finished), left in whole.items():
        where = f" on {name}" if name else ""
        said = f"{many(len(left), f'record{where}', 'are')} left out"
        rows = _methods(left)
        older = _RENAMED.format(rows) if finished else f"{_OLDER}: {rows}"
        found[f"{said} ({how}): {rows}; {_AGAIN}" if name else f"{said}, since {older}"] = left
    for (name, how), left in cells.items():
        said = many(len(left), f"score on the target {name}", "are")
        found[f"{said} left out ({how}): {_methods(left)}; {_AGAIN}"] = left
    return found


def _methods(records: Iterable[RunRecord]) -> str:
    """Return the rows that records belong to, with their numbers: cafe 3 and eac 2."""
    counts = Counter(record.spec.label for record in records)
    return listed(f"{name} {count}" for name, count in sorted(counts.items()))


_OLDER = "newer ones have other defaults, versions, numerics or weights"
_RENAMED = "a newer one of the same name has another model or convention: {}; to have both, give one another --name"
_AGAIN = "to have this on the present data, give the command that made it once more"


def _newest(records: Iterable[RunRecord]) -> dict[tuple[str, str, str], tuple[str, RunRecord]]:
    """Return the state of each domain in its newest record, by suite, profile and name, with that record."""
    found: dict[tuple[str, str, str], tuple[str, RunRecord]] = {}
    for record in sorted(records, key=lambda entry: entry.started, reverse=True):
        for name, fingerprint in {**record.spec.targets, **record.spec.fingerprints}.items():
            found.setdefault((record.spec.suite, record.spec.profile, name), (fingerprint, record))
    return found


def _how(name: str, record: RunRecord, newest: RunRecord) -> str:
    """Describe how the data of a domain differ between two records."""
    return differing(record.data.get(name), newest.data.get(name), "in the newest record")


def differing(one: DataFacts | None, other: DataFacts | None, where: str) -> str:
    """Return the most important differences between two states of a domain, in words.

    Args:
        one: The facts of the first state, or None.
        other: The facts of the second state, or None.
        where: The place of the second state, such as "in the newest record".
    """
    found = [] if one is None or other is None else list(one.differences(other))[:2]
    if not found:
        return "other faces or labels"
    here, there = ("; ".join(f"{pair[0]}: {pair[side]}" for pair in found) for side in (1, 2))
    return f"{here}, and {where} {there}"


def unlike(first: Iterable[RunRecord], second: Iterable[RunRecord], names: Iterable[str]) -> str | None:
    """Return a sentence about a domain that differs between two rows; None if no domain differs."""
    one, other = described(first), described(second)
    for name in names:
        if name in one and name in other and one[name].fingerprint != other[name].fingerprint:
            return f"{name} ({differing(one[name].facts, other[name].facts, 'in the other row')})"
    return None

"""Facts about the images behind a number: their dataset, how complete its copy is, and how it was read.

A prepared domain has these facts in its domain.json, and every record stores them for each of its domains. They are not
part of a run's key; the fingerprint of a domain is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fergen_bench.data.labels import SPLITS
from fergen_bench.data.prepared import scored_part
from fergen_bench.wording import many

ANNOTATOR = 1
"""Version of the definition of the agreement of a single annotator. Shares of other versions are not read."""


@dataclass(frozen=True)
class DataFacts:
    """The data of one domain. A text is empty if the fact is unknown or does not apply."""

    dataset: str = ""
    layout: str = ""
    complete: bool | None = None  # the copy equals its owner's; None without published counts to compare it with
    differs: str = ""  # how the copy differs from its owner's
    left_out: int = 0  # files that were missing or could not be read
    label_rule: str = ""  # the rule that turned votes into labels
    label_source: str = ""  # the file of votes
    label_map: Mapping[str, str] = field(default_factory=dict)  # native label → expression, "" if left out
    splits: str = ""  # how they were generated, if the owner published none
    size: tuple[int, int] = (0, 0)  # height and width in pixels
    crop: str = ""  # aligned, box, …
    margin: float = 0.0  # around boxes, as a share of their side
    detector: str = ""  # the program that found the boxes, and its version, if no annotation gave them
    bgr: bool = False  # colour channels are reversed
    resizer: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)  # part → number of images
    scored: str = ""  # the part that the run was scored on; empty if it was not scored on this domain
    annotator: float | None = None  # share of the scored part in which a single annotator agrees with the label

    @property
    def copy(self) -> str:
        """Compare the copy with its owner's in a word or two."""
        words = {True: "complete", False: "differs", None: ""}[self.complete]
        left = f"{many(self.left_out, 'file')} left out" if self.left_out else ""
        return ", ".join(filter(None, (words, left)))

    @property
    def labels(self) -> str:
        """Describe all choices about labels."""
        source = f" of {self.label_source}" if self.label_source and self.label_rule else ""
        changed = (f"{native}={name}" if name else f"{native} left out" for native, name in self.label_map.items())
        return ", ".join(filter(None, (f"{self.label_rule}{source}", *changed)))

    @property
    def short_labels(self) -> str:
        """Name the rule that turned votes into labels, and the number of mapped labels."""
        mapped = f"{len(self.label_map)} mapped" if self.label_map else ""
        return ", ".join(filter(None, (self.label_rule, mapped)))

    @property
    def pixels(self) -> str:
        """Describe size, crop and order of the colours, such as "224 px, box + 10 %, BGR"."""
        height, width = self.size
        size = f"{height} px" if height == width else f"{height} × {width} px"
        crop = self.crop or ("box" if self.margin else "")
        crop += f" + {100 * self.margin:g} %" if self.margin else ""
        return ", ".join(filter(None, (size, crop, "BGR" if self.bgr else "")))

    @property
    def scored_faces(self) -> int | None:
        """Number of images in the part that the run was scored on."""
        return self.counts.get(self.scored)

    def differences(self, other: DataFacts) -> Iterator[tuple[str, str, str]]:
        """Yield the facts that differ: name, value here, value in the other."""
        for name, of in _COMPARED.items():
            here, there = (str(of(facts)) for facts in (self, other))
            # A fact that an earlier version did not record is not a difference.
            if here != there and here and there:
                yield name, here, there


LARGEST_SIDE = 2048
"""The largest side in pixels of a face that a file may state."""


@dataclass(frozen=True)
class FaceCrop:
    """The form of the faces that a model was trained on, so that those of other photographs are cut alike.

    Attributes:
        size: Height and width in pixels; None if unknown.
        margin: Around the box of a face, as a share of its side; None if unknown.
        detector: The program that found the boxes; empty if it was another one or unknown.
    """

    size: tuple[int, int] | None = None
    margin: float | None = None
    detector: str = ""

    @classmethod
    def of(cls, sources: Iterable[DataFacts]) -> FaceCrop:
        """Return the form of the faces of several sources; what differs between them is unknown."""
        known = list(sources)
        if not known:
            return cls()
        crops = {(facts.margin, facts.detector) if facts.crop == "box" else None for facts in known}
        margin, detector = crops.pop() or (None, "") if len(crops) == 1 else (None, "")
        height, width = (max(facts.size[axis] for facts in known) for axis in (0, 1))
        return cls((height, width) if height and width else None, margin, detector)

    @classmethod
    def from_json(cls, content: object) -> FaceCrop:
        """Return the form that a file states; what it does not state, or states wrongly, is unknown."""
        if not isinstance(content, Mapping):
            return cls()
        size, margin, detector = (content.get(name) for name in ("size", "margin", "detector"))
        sides = size if isinstance(size, list | tuple) else ()
        known = len(sides) == 2 and all(type(side) is int and 1 <= side <= LARGEST_SIDE for side in sides)
        return cls(
            (int(sides[0]), int(sides[-1])) if known else None,
            float(margin) if isinstance(margin, int | float) and -0.5 < margin <= 1 else None,
            detector if isinstance(detector, str) else "",
        )


_COMPARED: Mapping[str, Any] = {
    "label rule": lambda facts: facts.label_rule,
    "file of votes": lambda facts: facts.label_source,
    "label map": lambda facts: ", ".join(f"{a}={b}" for a, b in facts.label_map.items()) or "unchanged",
    "colour order": lambda facts: "BGR" if facts.bgr else "RGB",
    "size": lambda facts: "{} × {}".format(*facts.size),
    "crop": lambda facts: facts.crop,
    "margin": lambda facts: f"{100 * facts.margin:g} %",
    "face detector": lambda facts: facts.detector,
    "resizing": lambda facts: facts.resizer,
    "dataset": lambda facts: facts.dataset,
    "layout": lambda facts: facts.layout,
    "splits": lambda facts: facts.splits,
    "copy": lambda facts: facts.copy,
    "faces": lambda facts: ", ".join(f"{part} {facts.counts[part]:,}" for part in SPLITS if part in facts.counts),
}
"""The compared facts, the most important first: name → value as a text."""


def facts_of(
    about: Mapping[str, Any], profile: str = "", is_source: bool = False, is_target: bool = False
) -> DataFacts:
    """Return the facts of a prepared domain.

    Args:
        about: The content of its domain.json.
        profile: The split profile of the suite, which decides with is_source which part is scored.
        is_source: The run learns from the domain.
        is_target: The run is scored on the domain.
    """
    named = "whole" in about
    # Without published counts for a label rule, there are none to compare with.
    compared = named and about.get("expected", True) != {}
    scored = scored_part(about, profile, is_source) if is_target else ""
    text = {name: str(about.get(name) or "") for name in ("dataset", "layout", "label_rule", "label_source", "resizer")}
    return DataFacts(
        **text,
        complete=bool(about["whole"]) if compared else None,
        differs="" if not compared or about["whole"] else str(about.get("verdict", "")),
        left_out=int(about.get("left_out", {}).get("total", 0)),
        label_map={str(native): str(name) for native, name in about.get("labels", {}).items()},
        splits=str(about.get("splits", "")),
        size=(about["size"][0], about["size"][1]),
        crop=str(about.get("crop", "")),
        margin=float(about.get("margin", 0.0)),
        detector=str(about.get("detector", "")),
        bgr=bool(about.get("emulate_bgr", False)),
        counts={part: sum(faces.values()) for part, faces in about["counts"].items()},
        scored=scored,
        annotator=_annotator(about.get("single_annotator", {}), scored),
    )


def _annotator(shares: Mapping[str, Any], part: str) -> float | None:
    """Return the agreement of a single annotator in a part; None if it was not computed in the present way."""
    share = shares.get(part) if shares.get("version") == ANNOTATOR else None
    return float(share) if isinstance(share, int | float) and 0 < share <= 1 else None

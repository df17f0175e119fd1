"""Turn native labels into expressions, and rows of lists and tables into the faces of a listing, each once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from fergen_bench.data.labels import ALIASES, EXPRESSIONS, meant_by
from fergen_bench.datasets.files import Files, images
from fergen_bench.datasets.numbering import CONTEMPT, LEFT_OUT, Labels, UnknownNumbers, is_number, own_numbers, plain
from fergen_bench.datasets.reader import Box, Face, Fault, Listing
from fergen_bench.error import NeedsKey
from fergen_bench.files.bounded import printable
from fergen_bench.wording import many

SYNONYMS: Mapping[str, str] = {
    word: name
    for name, words in {
        "surprise": ("amazed", "amazement", "astonished", "shock", "shocked"),
        "fear": ("scared", "fright", "frightened", "terror", "terrified", "anxious"),
        "disgust": ("revulsion", "aversion", "yuck"),
        "happiness": ("joy", "joyful", "smile", "smiling", "laughing", "cheerful", "glad"),
        "sadness": ("sorrow", "grief", "crying", "depressed"),
        "anger": ("rage", "furious", "annoyed"),
        "neutral": ("calm", "expressionless", "neutrality"),
    }.items()
    for word in words
}
"""Word → the expression that errors suggest for it. A synonym is never used as a label by itself."""


def expression_of(native: str, labels: Labels, place: str) -> str:
    """Return the expression that a native label means.

    Args:
        native: The label.
        labels: Native label → expression, from the dataset or the user; it precedes the usual names.
        place: The file and line of the label, for errors.

    Returns:
        One of EXPRESSIONS, or LEFT_OUT.

    Raises:
        UnknownNumbers: The label is a number without a meaning.
        NeedsKey: The label is another word without a meaning.
    """
    native = printable(native)
    for key in (native, native.casefold(), plain(native)):
        if key in labels:
            return labels[key]
    name = native.strip().casefold()
    if name == CONTEMPT:
        return LEFT_OUT
    if name in ALIASES:
        return ALIASES[name]
    if is_number(plain(native)):
        raise UnknownNumbers(plain(native), place, {}, own_numbers(labels))
    raise _unknown_label(native, labels, place)


def _unknown_label(native: str, labels: Labels, place: str) -> NeedsKey:
    """Return the error for a word that is not a known label, with the expression that it may mean."""
    meant = _near_expression(native.strip().casefold()) or "…"
    fault = f"{place}: '{native}' is not a known expression; expected {', '.join(labels) or ', '.join(EXPRESSIONS)}. "
    fault += "Map it with" if meant != "…" else "Map it to one of the seven with"
    key, mark = (f"'{native}'", "'") if "\\" in native else (f'"{native}"', "")  # neither escapes it in such quotes
    in_toml = f'labels = {{ {key} = "{meant}" }}, or "" to leave it out'
    on_command_line = f"--labels {mark}{native}={meant}{mark}, or --labels {mark}{native}={mark} to leave it out"
    if not native.strip() or set(native) & set(",= "):  # the option cannot express these
        on_command_line = f"{in_toml}, in a table of bench.toml"
    return NeedsKey(fault, in_toml, on_command_line)


def _near_expression(name: str) -> str | None:
    """Return the expression that an unknown label in lower case may mean, for a suggestion only."""
    return meant_by(name, {alias: meant for alias, meant in {**ALIASES, **SYNONYMS}.items() if len(alias) > 2}, 0.7)


def add_named_face(
    listing: Listing,
    image: Path,
    base: Path,
    labels: Labels,
    native: str,
    subject: str,
    extra: Mapping[str, str] | None = None,
) -> None:
    """Add a face whose file name contains its label and its subject; a label that is left out is counted as dropped.

    Args:
        listing: Receives the face, in the split train.
        image: The image.
        base: The folder to which ids are relative.
        labels: Native label → expression.
        native: The label.
        subject: The subject.
        extra: More columns of labels.csv.

    Raises:
        BenchError: The label is unknown.
    """
    expression = expression_of(native, labels, str(image))
    if expression == LEFT_OUT:
        listing.dropped[native] += 1
        return
    name = image.relative_to(base).as_posix()
    listing.faces.append(Face(name, "train", expression, native, image, subject=subject, extra=extra))


class Labelling:
    """Translates native labels, and counts them in a listing.

    Numbers without a meaning are refused at the end, when all of them are known.
    """

    def __init__(self, listing: Listing, labels: Labels) -> None:
        self._listing, self._labels = listing, labels
        self._unknown: UnknownNumbers | None = None
        listing.labels = labels

    def expression(self, native: str, split: str, place: str, faces: int = 1) -> str:
        """Return the expression, or LEFT_OUT, of a native label that so many faces have."""
        self._listing.natives.setdefault(split, Counter())[plain(native)] += faces
        try:
            return expression_of(native, self._labels, place)
        except UnknownNumbers as error:
            self._unknown = self._unknown or error
            return LEFT_OUT

    def close(self) -> None:
        """Refuse numbers without a meaning.

        Raises:
            UnknownNumbers: There were such numbers.
        """
        if (error := self._unknown) is not None:
            raise UnknownNumbers(error.native, error.place, self._listing.natives, error.own)


class Gathering:
    """Adds the faces that rows name to a listing, each once.

    Faces whose label is left out are counted as dropped. A missing image, a face that is named twice and, on request,
    an image that no row names are faults.
    """

    def __init__(self, listing: Listing, root: Path, labels: Labels, reasons: Mapping[str, str] | None = None) -> None:
        """Prepare to add faces.

        Args:
            listing: Receives the faces.
            root: The folder to which ids are relative.
            labels: Native label → expression.
            reasons: Native label → the reason that is counted where the label is left out.
        """
        self._listing, self._root, self._reasons = listing, root, reasons or {}
        self._labelling = Labelling(listing, labels)
        self._files = Files(root)
        self._named: set[Path] = set()
        self._first: dict[str, tuple[str, str, str]] = {}
        self._other_endings = 0

    def add(
        self,
        place: str,
        wanted: Path,
        native: str,
        split: str,
        *,
        number: int | None = None,
        box: Box | None = None,
        unusable: str | None = None,
        subject: str | None = None,
        extra: Mapping[str, str] | None = None,
    ) -> None:
        """Add the face of a row.

        Args:
            place: The file and line.
            wanted: The image as the row names it; the file may have another ending.
            native: The label.
            split: train, val or test.
            number: Distinguishes the faces of one image.
            box: The box of the face.
            unusable: The reason to drop the row although its label is usable.
            subject: The subject.
            extra: More columns of labels.csv.
        """
        expression = self._labelling.expression(native, split, place)
        image = self._image(wanted)
        file = image or wanted
        name = file.relative_to(self._root).as_posix()
        face_id = name if number is None else f"{name}#{number}"
        first, before, meant = self._first.setdefault(face_id, (place, native, expression))
        if first != place:
            what = f"{place}: {face_id} is listed twice, as {native} here and as {before} at {first}, which counts."
            self._listing.faults.append(Fault("duplicate" if meant == expression else "label", place, what))
            self._listing.dropped["listed twice" if meant == expression else "listed twice, with two labels"] += 1
        elif expression == LEFT_OUT:
            self._listing.dropped[self._reasons.get(plain(native), native)] += 1
        elif unusable is not None:
            self._listing.dropped[unusable] += 1
        elif image is None:
            self._listing.faults.append(Fault("missing", place, f"{name} is listed, but is not in {self._root}."))
        else:
            self._other_endings += image.suffix.lower() != wanted.suffix.lower()
            if box is not None:
                self._listing.places[face_id] = place
            face = Face(face_id, split, expression, native, image, box=box, subject=subject, extra=extra)
            self._listing.faces.append(face)

    def leave_out(self, wanted: Path, reason: str) -> None:
        """Count the image of a row without a label as dropped."""
        self._image(wanted)
        self._listing.dropped[reason] += 1

    def _image(self, wanted: Path) -> Path | None:
        image = self._files.image(wanted)
        self._named.add(image or wanted)
        return image

    def close(self, *everything: Path) -> None:
        """Report what only the whole of the rows shows.

        Args:
            *everything: Folders in which every image without a row is a fault.

        Raises:
            UnknownNumbers: Labels are numbers without a meaning.
        """
        self._labelling.close()
        if self._other_endings:
            self._listing.notes.append(
                f"{many(self._other_endings, 'image', 'have')} another ending than in the list, such as png for bmp."
            )
        for folder in everything:
            for image in images(folder, self._root, self._listing.passed_over):
                if image not in self._named:
                    where = image.relative_to(self._root).as_posix()
                    self._listing.faults.append(Fault("extra", where, f"{image} exists, but is not listed."))

"""Turn a listing into a prepared domain: faces.npy, labels.csv and domain.json.

The faces are decoded once, on several processes and in bounded memory. A preparation that was killed continues.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fergen_bench.data.facts import ANNOTATOR
from fergen_bench.data.prepared import finish_prepared, is_prepared, read_about
from fergen_bench.datasets.annotators import by_part
from fergen_bench.datasets.cropping import crop_faces
from fergen_bench.datasets.draft import DECODER, Decoded, Draft, Shape, beside, common_side, digest_of, write_errors
from fergen_bench.datasets.pixels import RESIZER
from fergen_bench.datasets.reader import Dataset, Face, Layout, Listing, read
from fergen_bench.datasets.statistics import summary, white_levels, white_notes
from fergen_bench.datasets.verdict import Finding, counts_of, extras, identify, is_another, verdict
from fergen_bench.error import BenchError, NeedsKey
from fergen_bench.files.bounded import printable_content
from fergen_bench.files.pool import worker_pool
from fergen_bench.wording import many

if TYPE_CHECKING:
    from fergen_bench.datasets.settings import DomainSettings

MOST_NAMED = 20
"""Largest number of unreadable files that an error names."""
MOST_LISTED = 100
"""Largest number of left-out files, and of lines with labels that disagree, that domain.json lists."""


def prepare(
    name: str,
    listing: Listing,
    about: Mapping[str, object],
    settings: DomainSettings,
    folder: Path,
    processes: int,
    progress: Callable[[int, int], None],
) -> Path:
    """Decode the faces of a listing into a prepared domain.

    A folder that was prepared from the same files, labels and settings stays as it is. The memory is that of the
    listing and a few blocks per process.

    Args:
        name: Name of the domain.
        listing: The faces.
        about: The dataset, the layout, and more content of domain.json.
        settings: The choices of the user. Files that are missing or cannot be read are all found in one pass, and then
            refused, or left out where `allow_missing` is True.
        folder: Folder of the domain.
        processes: Number of worker processes.
        progress: Called with the number of decoded faces and the total.

    Returns:
        `folder`.

    Raises:
        BenchError: The folder has other content or cannot be written, the listing has no faces, or a file cannot be
            read.
    """
    if folder.exists() and not is_prepared(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise BenchError(f"{folder}: this place has other content. Choose an empty place with --to")
    if not listing.faces:
        raise BenchError(f"{name}: there is no face to prepare{_dropped(listing)}")
    from filelock import FileLock

    with write_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(beside(folder, "lock")), worker_pool(processes) as pool:
            side = settings.size or common_side(listing.faces, pool, processes)
            shape = Shape(side, settings.margin, settings.emulate_bgr, settings.white)
            draft = Draft(folder, listing.faces, shape, pool, processes)
            columns = _columns(listing.faces)
            described = _described(listing, about)
            inputs = _inputs(listing, described, settings, draft, columns)
            if is_prepared(folder) and read_about(folder).get("inputs") == inputs:
                progress(len(listing.faces), len(listing.faces))
                return folder
            with write_errors(folder, draft):
                decoded = draft.decode(progress)
                described |= _from_pixels(name, listing, decoded, described, settings, draft)
                columns = _without_unreadable(columns, decoded, draft)
                if shares := by_part(columns, described.get("label_rule")):
                    described["single_annotator"] = shares
                if "subject" in columns:
                    # A face without a known subject is listed under its own id.
                    described["subjects"] = len(set(columns["subject"]) - set(columns["id"]))
                finish_prepared(draft.folder, folder, name, columns, {**described, "inputs": inputs})
                draft.finish()
    return folder


def _described(listing: Listing, about: Mapping[str, object]) -> dict[str, Any]:
    """Return the content of domain.json that is known before the faces are decoded."""
    described = {"synthetic": False, **about, **listing.about}
    notes = [*listing.notes, *extras(listing.faults), *listing.passed_over.sentences()]
    described |= {"dropped": dict(listing.dropped), "notes": notes, "resizer": RESIZER, "decoder": DECODER}
    if disagreeing := [fault.what for fault in listing.faults if fault.kind == "label"]:
        described["labels_disagree"] = {"total": len(disagreeing), "lines": disagreeing[:MOST_LISTED]}
    content: dict[str, Any] = printable_content(described)
    return content


def _inputs(
    listing: Listing,
    described: Mapping[str, Any],
    settings: DomainSettings,
    draft: Draft,
    columns: Mapping[str, list[str]],
) -> str:
    """Return a digest of everything that the prepared domain depends on."""
    rows = (repr(row) for row in zip(*columns.values(), strict=True))
    # Tools leave files at any time; such files do not change the domain.
    lasting = [*listing.notes, *extras(listing.faults), *listing.passed_over.sentences(but="leftover")]
    computed = [f"annotators {ANNOTATOR}"] if "votes_NF" in columns else []
    about = [repr({**described, "notes": lasting}), repr(settings.allow_missing), *computed]
    return digest_of([*about, *draft.digests], rows)


def _from_pixels(
    name: str, listing: Listing, decoded: Decoded, described: Mapping[str, Any], settings: DomainSettings, draft: Draft
) -> dict[str, Any]:
    """Return the content of domain.json that the decoded faces add.

    Unreadable files are refused unless allowed, and deep images are rescaled to one white level.
    """
    faces, table = listing.faces, decoded.table
    left_out = _left_out(name, listing, decoded.unreadable, settings.allow_missing)
    whites = white_levels(faces, table, settings.white, name)
    draft.rescale(table, whites)
    found: dict[str, Any] = printable_content(
        {
            "notes": [*described["notes"], *white_notes(faces, table, whites, settings.white)],
            "pixels": summary(faces, table, str(described.get("dataset"))),
        }
    )
    if left_out:
        found["left_out"] = {"total": len(left_out), "files": left_out[:MOST_LISTED]}
    return found


def _without_unreadable(columns: dict[str, list[str]], decoded: Decoded, draft: Draft) -> dict[str, list[str]]:
    """Remove the unreadable faces from the draft, and return the columns without their rows."""
    if not decoded.unreadable:
        return columns
    readable = np.ones(len(columns["id"]), bool)
    readable[list(decoded.unreadable)] = False
    draft.keep(readable)
    return {column: list(compress(values, readable)) for column, values in columns.items()}


def _columns(faces: Sequence[Face]) -> dict[str, list[str]]:
    """Return the columns of labels.csv."""
    columns = {
        "id": [face.id for face in faces],
        "expression": [face.expression for face in faces],
        "split": [face.split for face in faces],
    }
    if any(face.subject is not None for face in faces):
        # Faces without a known subject are subjects of their own, not one common subject.
        columns["subject"] = [face.id if face.subject is None else face.subject for face in faces]
    if any(face.native_label for face in faces):
        columns["native_label"] = [face.native_label for face in faces]
    for name in dict.fromkeys(name for face in faces for name in face.extra or ()):
        columns[name] = [(face.extra or {}).get(name, "") for face in faces]
    return columns


def _left_out(name: str, listing: Listing, unreadable: Mapping[int, str], allowed: bool) -> list[str]:
    """Return the names of missing and unreadable files, which are refused unless they are allowed."""
    missing = [fault for fault in listing.faults if fault.kind in {"missing", "unreadable"}]
    total = len(missing) + len(unreadable)
    if total and not allowed:
        shown = [str(fault) for fault in missing[:MOST_NAMED]]
        shown += [f"{listing.faces[row].file or listing.faces[row].id}: {why}" for row, why in unreadable.items()]
        more = [f"and {total - MOST_NAMED:,} more"] if total > MOST_NAMED else []
        raise BenchError(
            f"{name}: {many(total, 'file', 'are')} missing or cannot be read. Repair them, or leave them out with "
            f"--allow-missing (allow_missing = true in bench.toml). The next preparation reuses what was decoded.\n  "
            + "\n  ".join(shown[:MOST_NAMED] + more)
        )
    if len(unreadable) == len(listing.faces):
        raise BenchError(f"{name}: not one of the {many(len(listing.faces), 'face')} can be read{_dropped(listing)}")
    return [fault.where for fault in missing] + [listing.faces[row].id for row in unreadable]


def _dropped(listing: Listing) -> str:
    counts = ", ".join(f"{count:,} {why}" for why, count in listing.dropped.items())
    return f" (left out: {counts})" if counts else ""


# ------------------------------------------------------------------------------------------------------------- datasets


def prepare_dataset(
    name: str,
    kind: Dataset,
    settings: DomainSettings,
    folder: Path,
    processes: int,
    progress: Callable[[int, int], None],
) -> Path:
    """Read a copy of a dataset and prepare it as a domain.

    Args:
        name: Name of the domain.
        kind: The dataset.
        settings: The location and the choices of the user.
        folder: Folder of the domain.
        processes: Number of worker processes.
        progress: Called with the number of decoded faces and the total.

    Returns:
        `folder`.

    Raises:
        BenchError: The folder holds another dataset, or the domain has the name of a dataset, by which suites
            recognise it, but the folder is not even a part of that dataset. Also as in `prepare`.
    """
    layout, listing = read(kind, settings)
    found = counts_of(listing.faces)
    finding = verdict(kind, found, listing.expected, layout.official)
    if kind.expected and (other := identify(found, but=kind.name)) is not None:
        raise BenchError(
            f"{settings.path}: {finding.what}. Prepare it as what it is: fergen-bench data prepare {other.name} "
            f"{settings.path}"
        )
    if name == kind.name and is_another(found, kind.expected if listing.expected is None else listing.expected):
        raise NeedsKey(
            f"{settings.path}: this is not {kind.title}: {finding.what}, and no split has half of its faces and some "
            f"of every expression. Name the folder that contains it, or choose another name for the domain,",
            f'such as [domains.my-{kind.name}] with dataset = "{kind.name}"',
            f"such as --name my-{kind.name}",
        )
    if settings.crop is not None:
        crop_faces(listing, name, folder, processes, progress)
    return prepare(
        name, listing, _about(kind, layout, listing, finding, settings), settings, folder, processes, progress
    )


def _about(
    kind: Dataset, layout: Layout, listing: Listing, finding: Finding, settings: DomainSettings
) -> dict[str, object]:
    """Return the content of domain.json about the dataset and the choices of the user."""
    about: dict[str, object] = {"dataset": kind.name, "layout": layout.name, "verdict": finding.what}
    if kind.expected:
        about |= {"official_split": layout.official, "whole": finding.level == "ok"}
    if kind.scored:
        about["scored"] = dict(kind.scored)
    if listing.expected is not None:
        about["expected"] = listing.expected
    if crop := (layout.crop if settings.crop is None else "") or _crop(listing.faces):
        about["crop"] = crop
    for choice in ("labels", "margin", "emulate_bgr", "white"):
        if getattr(settings, choice):
            about[choice] = getattr(settings, choice)
    return about


def _crop(faces: Sequence[Face]) -> str:
    """Return how faces are cropped, as far as boxes and file names show it."""
    if any(face.box is not None for face in faces):
        return "box"
    named = ("" if face.file is None else "/".join(face.file.parts[-4:]) for face in faces)
    return "aligned" if all(re.search("(?<![a-z])aligned", name.casefold()) for name in named) else ""

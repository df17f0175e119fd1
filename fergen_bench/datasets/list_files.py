"""Read text files with lines of an image path and a label."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from fergen_bench.datasets.class_folders import SPLITS
from fergen_bench.datasets.columns import first_name, labelled_lines
from fergen_bench.datasets.files import Files, entries, folders, image_root, inside
from fergen_bench.datasets.gathering import Gathering
from fergen_bench.datasets.kinds import IMAGES
from fergen_bench.datasets.numbering import Labels, label_map
from fergen_bench.datasets.reader import Layout, Listing
from fergen_bench.datasets.splits import draw_test_split, subject_of
from fergen_bench.datasets.text_files import first_line
from fergen_bench.error import BenchError

if TYPE_CHECKING:
    from fergen_bench.datasets.settings import DomainSettings

LISTS = frozenset({".txt", ".lst", ".list"})
_ENDINGS = "|".join(re.escape(suffix) for suffix in sorted(IMAGES))
_LINE = re.compile(rf"\S.*({_ENDINGS})([\s,;|]+\S+)+", re.IGNORECASE)


def names_an_image(line: str) -> bool:
    """Return True for a line such as `a/b.jpg 3`; the reader refuses other columns and other delimiters."""
    return _LINE.fullmatch(line) is not None


def lists_in(place: Path, fits: Callable[[str], bool] = names_an_image) -> list[Path]:
    """Return the lists in a folder, sorted by name, or the one list that the path names.

    Args:
        place: A folder or a file.
        fits: Returns True for the first line of a list.
    """
    if place.is_file():
        return [place] if place.suffix.lower() != ".csv" and fits(first_line(place)) else []
    texts = [Path(e.path) for e in entries(place, place) if e.is_file() and Path(e.name).suffix.lower() in LISTS]
    return [path for path in texts if fits(first_line(path))]


def split_named(name: str, splits: Mapping[str, str] = SPLITS) -> str | None:
    """Return the split that a name contains as a word, such as train for list_train_label.

    Returns:
        The split, or None where the name contains none, or two.
    """
    named = {splits[word] for word in re.split(r"[^a-z]+", name.casefold()) if word in splits}
    return named.pop() if len(named) == 1 else None


def read_lists(
    base: Path,
    settings: DomainSettings,
    labels: Labels,
    splits: Mapping[str, str] = SPLITS,
    fits: Callable[[str], bool] = names_an_image,
    reasons: Mapping[str, str] | None = None,
) -> Listing:
    """Read the faces of lists.

    The split of a face comes from the name of its list (sfew_train.txt), else from the folders of its path
    (Val_Aligned_Faces/…), else a test split is drawn. A face of a test list and of another list is a test face.

    Args:
        base: A list, or the folder of the lists.
        settings: The choices of the user.
        labels: Native label → expression.
        splits: Word in lower case → split.
        fits: Returns True for the first line of a list.
        reasons: Native label → the reason that is counted where the label is left out.

    Raises:
        BenchError: A list is damaged, or splits are incomplete.
    """
    lists = _ordered_lists(base, splits, fits)
    root = image_root(settings, _start(lists[0]), "the list")
    listing = Listing(about={"lists": [path.name for path in lists], "splits": "as given"})
    used = label_map(labels, settings)
    lines, column = labelled_lines(lists, used, settings)
    if column is not None:
        listing.notes.append(column)
    gathering = Gathering(listing, root, used, reasons)
    split_of = cache(lambda word: split_named(word, splits))  # the same few names for every face
    for path, place, name, native in lines:
        image = inside(root, name, place, movable=True)
        words = (path.stem, *image.relative_to(root).parts[:-1])
        split = next(filter(None, map(split_of, words)), "")
        gathering.add(place, image, native, split, subject=subject_of(image.name, settings.subject, place))
    gathering.close()
    listing.require_faces(lists[0] if len(lists) == 1 else base)
    _settle_splits(listing, lists[0], settings)
    if {face.split for face in listing.faces} == {"val"}:
        raise BenchError(f"{base}: there are lists for val but for neither train nor test. Add one of them")
    return listing


def _ordered_lists(base: Path, splits: Mapping[str, str], fits: Callable[[str], bool]) -> list[Path]:
    """Return the lists, with test lists first."""
    lists = lists_in(base, fits)
    named = {path: split_named(path.stem, splits) for path in lists}
    if (other := next((path for path in lists if named[path] is None), None)) and len(lists) > 1:
        raise BenchError(
            f"{other}: this is one of {len(lists)} lists, but its name contains neither train, val nor test. Name the "
            f"one list that is meant"
        )
    return sorted(lists, key=lambda path: ("test", "val", "train", None).index(named[path]))


def _settle_splits(listing: Listing, path: Path, settings: DomainSettings) -> None:
    """Draw a test split where no face has a split, and refuse a listing where only some faces have one."""
    unsplit = [face for face in listing.faces if not face.split]
    if not unsplit:
        return
    if len(unsplit) < len(listing.faces):
        one = next(face for face in listing.faces if face.split)
        raise BenchError(
            f"{path}: {one.id} is of the {one.split} split, but the split of {unsplit[0].id} is unknown. Name the "
            f"lists, "
            f"or the folders, train, val and test"
        )
    draw_test_split(listing, settings)
    listing.notes.append(f"The list lacks splits; {settings.test_share:g} of each expression is the test split.")


def _start(path: Path) -> Path:
    """Return the folder to which the paths in a list are relative.

    That is the folder of the list, or the subfolder of it that contains the first image.
    """
    place, name = first_name(path)
    home = path.parent
    if Files(home).image(inside(home, name, place, movable=True)) or os.path.isabs(name):
        return home
    return next((start for start in folders(home, home) if Files(start).image(inside(start, name, place))), home)


def list_layout(labels: Labels, splits: Mapping[str, str] = SPLITS, roots: tuple[str, ...] = ()) -> Layout:
    """Return the layout of lists as the code of CAFE reads them.

    Args:
        labels: The meaning of the numbers, which differs between datasets.
        splits: Word in lower case → split.
        roots: Folders in which the dataset is unpacked.
    """
    numbers = ", ".join(f"{number} {name}" for number, name in labels.items())
    return Layout(
        "list-file",
        f"*.txt with lines `relative/path.jpg label` ({numbers})",
        lambda path: bool(lists_in(path)),
        lambda base, settings: read_lists(base, settings, labels, splits),
        official=False,
        roots=roots,
        uses=("images", "columns", "subject"),
    )

"""RAF-DB, basic expressions: Li, Deng, Du, CVPR 2017. 15,339 aligned faces of 100×100 pixels; no validation split."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from fergen_bench.datasets.reader import (
    LEFT_OUT,
    SPLITS,
    Dataset,
    Face,
    Fault,
    Files,
    Layout,
    Listing,
    entries,
    expression_of,
    folders,
    images,
    list_file,
    table,
    with_splits,
)
from fergen_bench.datasets.shapes import (
    base_below,
    box_of,
    first_line,
    first_of,
    has_split_classes,
    lists_in,
    split_class_folders,
)
from fergen_bench.error import BenchError

if TYPE_CHECKING:
    from fergen_bench.settings import DomainSettings

LABELS = {"1": "surprise", "2": "fear", "3": "disgust", "4": "happiness", "5": "sadness", "6": "anger", "7": "neutral"}
FROM_ZERO = {
    "0": "surprise",
    "1": "fear",
    "2": "disgust",
    "3": "happiness",
    "4": "sadness",
    "5": "anger",
    "6": "neutral",
}
ROOTS = ("RAF_DB/RAF_DB/basic", "raf-basic", "RAF/basic")
LIST = "list_patition_label.txt"  # the owner's spelling
NAME = re.compile(r"(train|test)_\d+(_aligned)?", re.IGNORECASE)
SUFFIX = re.compile(r".*_([0-7])", re.IGNORECASE)

# ----------------------------------------------------------------------------------------- lists of `train_00001.jpg 5`


def _list(base: Path, name: str = LIST, columns: int = 2) -> Path | None:
    """A list of the owner's, in EmoLabel or beside it, if its first line has so many columns."""
    for path in (base / "EmoLabel" / name, base / name):
        if path.is_file() and len(first_line(path).split()) == columns:
            return path
    return None


def _aligned(base: Path) -> bool:
    return (base / "Image" / "aligned").is_dir()


def _read_rows(
    lists: Iterable[Path],
    root: Path,
    labels: Mapping[str, str],
    image_of: Callable[[str], Path],
    listing: Listing,
    columns: int = 2,
) -> set[Path]:
    """Lists the faces of lines `train_00001.jpg 5`, and returns every image that is named. Of more columns, the second
    is the label. image_of: the owner's name without `_aligned` → where its image should be.
    """
    files, named = Files(root), set()
    seen: dict[str, tuple[str, str]] = {}
    for path in lists:
        entries(
            path.parent, root if path.is_relative_to(root) else path.parent
        )  # refuses links and twins among the lists
        for place, name, (native, *_) in list_file(path, columns):
            stem = PurePosixPath(name.replace("\\", "/")).stem
            if (match := NAME.fullmatch(stem)) is None:
                raise BenchError(f"{place}: {name!r} is no name of RAF-DB; expected such as train_00001 or test_0001")
            stem = stem.removesuffix("_aligned")
            expression = expression_of(native, labels, place)
            if not first_of(stem, place, native, seen, listing):
                continue
            image = image_of(stem)
            named.add(image)
            if expression == LEFT_OUT:
                listing.dropped[native] += 1
            elif not files.has(image):
                what = f"{image.name} is listed, but is not to be found in {image.parent}."
                listing.faults.append(Fault("missing", place, what))
            else:
                identity = image.relative_to(root).as_posix()
                listing.faces.append(Face(identity, match[1].lower(), expression, native, image))
    return named


def _read_lists(base: Path, lists: Iterable[Path], settings: DomainSettings, columns: int = 2) -> Listing:
    """Faces of lists in Image/aligned. A file that is missing, or that no list names, is a fault."""
    listing, folder = Listing(), base / "Image" / "aligned"
    labels = {**LABELS, **settings.labels}
    named = _read_rows(lists, base, labels, lambda stem: folder / f"{stem}_aligned.jpg", listing, columns)
    _note_extra(base, images(folder, base), named, listing)
    return listing


def _note_extra(base: Path, found: Iterable[Path], named: set[Path], listing: Listing) -> None:
    listing.faults += [
        Fault("extra", str(image.relative_to(base)), f"{image} is there, but no list names it; it is left out.")
        for image in found
        if image not in named
    ]


def _find_official(path: Path) -> Path | None:
    return base_below(path, ROOTS, lambda base: _aligned(base) and _list(base) is not None)


def _read_official(base: Path, settings: DomainSettings) -> Listing:
    path = _list(base)
    assert path is not None
    return _read_lists(base, [path], settings)


def _split_lists(base: Path) -> list[Path]:
    names = ("list_train_label.txt", "list_test_label.txt")
    return [path for name in names if (path := _list(base, name)) is not None]


def _find_split_lists(path: Path) -> Path | None:
    return base_below(path, ROOTS, lambda base: _aligned(base) and bool(_split_lists(base)))


def _read_split_lists(base: Path, settings: DomainSettings) -> Listing:
    return _read_lists(base, _split_lists(base), settings)


def _find_three_columns(path: Path) -> Path | None:
    return base_below(path, ROOTS, lambda base: _aligned(base) and _list(base, columns=3) is not None)


def _read_three_columns(base: Path, settings: DomainSettings) -> Listing:
    path = _list(base, columns=3)
    assert path is not None
    return _read_lists(base, [path], settings, columns=3)


def _find_original(path: Path) -> Path | None:
    return base_below(path, ROOTS, lambda base: (base / "Image" / "original").is_dir() and _list(base) is not None)


def _read_original(base: Path, settings: DomainSettings) -> Listing:
    """Whole photographs, or faces where the pack holds boxes, Annotation/boundingbox/train_00001.txt. These are not the
    owner's: people made them with a detector (CD-FER-Benchmark#22).
    """
    listing, files = Listing(), Files(base)
    folder, boxes = base / "Image" / "original", base / "Annotation" / "boundingbox"
    path = _list(base)
    assert path is not None
    named = _read_rows([path], base, {**LABELS, **settings.labels}, lambda stem: folder / f"{stem}.jpg", listing)
    boxed = boxes.is_dir() and any(NAME.fullmatch(box.stem) for box in boxes.glob("*.txt"))
    if boxed:
        box_file = {face.id: boxes / f"{PurePosixPath(face.id).stem}.txt" for face in listing.faces}
        with_box = [face for face in listing.faces if files.has(box_file[face.id])]
        listing.dropped += Counter({"no face box": len(listing.faces) - len(with_box)})  # drops a count of 0
        listing.faces = [replace(face, box=box_of(box_file[face.id])) for face in with_box]
    _note_extra(base, images(folder, base), named, listing)
    listing.notes.append(
        "Faces are cut out with the boxes in Annotation/boundingbox, which are not the owner's."
        if boxed
        else "Image/original holds whole photographs and there are no face boxes: faces are not cropped."
    )
    return listing


# ------------------------------------------------------------------------------------ lists whose paths are others' own


def _by_name(base: Path) -> dict[str, Path]:
    """Every image below a base with a name of the owner's, by that name; one in two places is refused."""
    found: dict[str, Path] = {}
    for image in images(base, base):
        if NAME.fullmatch(image.stem) and (other := found.setdefault(image.name, image)) != image:
            raise BenchError(f"{image}: stands in {other.parent} too; name a folder that holds each face once")
    return found


def _numbering(natives: set[str], settings: DomainSettings, place: Path, listing: Listing) -> Mapping[str, str]:
    """What the numbers mean: 0..6 where there is a 0 and no 7, 1..7 where there is a 7 and no 0."""
    if natives <= set(settings.labels):
        return settings.labels
    zero, seven = "0" in natives, "7" in natives
    if zero == seven:
        have = "both 0 and 7 are" if zero else "neither 0 nor 7 is"
        raise BenchError(
            f"{place}: {have} among the labels, so they may count from 0 or from 1; say what each of "
            f'{", ".join(sorted(natives))} is with labels = {{ "1" = "surprise", … }}'
        )
    listing.about["labels"] = "0..6" if zero else "1..7"
    return {**(FROM_ZERO if zero else LABELS), **settings.labels}


def _is_path_line(line: str) -> bool:
    name, _, label = line.rpartition(" ")
    stem = PurePosixPath(name.replace("\\", "/")).stem
    return label.strip().isdigit() and stem.endswith("_aligned") and NAME.fullmatch(stem) is not None


def _path_lists(base: Path) -> list[Path]:
    return [*lists_in(base, _is_path_line), *lists_in(base / "EmoLabel", _is_path_line)]


def _find_path_list(path: Path) -> Path | None:
    if path.is_file():
        return path if _is_path_line(first_line(path)) else None
    return base_below(path, ROOTS, lambda base: bool(_path_lists(base)))


def _read_path_list(base: Path, settings: DomainSettings) -> Listing:
    """Lists such as `/home/…/train_00001_aligned.jpg 4`: the folders are of another machine, the file name counts."""
    lists = [base] if base.is_file() else _path_lists(base)
    home = base.parent if base.is_file() else base
    listing = Listing(about={"lists": [path.name for path in lists]})
    labels = _numbering({label for path in lists for _, _, (label,) in list_file(path)}, settings, lists[0], listing)
    root = settings.images or home
    found = _by_name(root)
    _read_rows(
        lists, root, labels, lambda stem: found.get(f"{stem}_aligned.jpg", root / f"{stem}_aligned.jpg"), listing
    )
    return listing


def _find_flat(path: Path) -> Path | None:
    def fits(base: Path) -> bool:
        if _aligned(base) or _list(base) is None:
            return False
        places = (base / "raf-db" / name for name in SPLITS), (base / name for name in SPLITS)
        return any(NAME.fullmatch(image.stem) for pair in places for place in pair for image in place.glob("t*.jpg"))

    return base_below(path, ("raf-db",), fits)


def _read_flat(base: Path, settings: DomainSettings) -> Listing:
    """The owner's names in flat folders train and valid, with the owner's list: it says label and split."""
    listing, found, path = Listing(), _by_name(base), _list(base)
    assert path is not None
    labels = {**LABELS, **settings.labels}
    named = _read_rows(
        [path], base, labels, lambda stem: found.get(f"{stem}_aligned.jpg", base / f"{stem}_aligned.jpg"), listing
    )
    _note_extra(base, images(base, base), named, listing)
    listing.notes.append("Such copies are often aligned anew, which moves published accuracies by up to ten points.")
    return listing


# -------------------------------------------------------------------------------------------------------- class folders


def _owner_split(image: Path) -> str | None:
    match = re.match(r"(train|test)_\d", image.name, re.IGNORECASE)
    return match[1].lower() if match else None


def _in_class_folders(base: Path, settings: DomainSettings, listing: Listing) -> list[Face]:
    """Faces of {split}/{class}/. RAF-DB has a test split and no other, so val is test where there is no test."""
    names = {folder.name.casefold() for folder in folders(base, base)}
    splits = SPLITS
    if not any(SPLITS.get(name) == "test" for name in names):
        splits = {name: "test" if split == "val" else split for name, split in SPLITS.items()}
        listing.notes.append("There is no folder test; RAF-DB has no validation split, so val is its test split.")
    faces = list(split_class_folders(base, {**LABELS, **settings.labels}, listing, splits))
    for face in faces:
        assert face.file is not None
        if (owner := _owner_split(face.file)) not in (None, face.split):
            what = f"{face.file} is of the owner's {owner} split, but stands in {face.split}."
            listing.faults.append(Fault("extra", face.id, what))
    if faces and not any(_owner_split(face.file) for face in faces if face.file):
        listing.notes.append("The file names do not say whether these splits are the owner's.")
    if any(face.split == "val" for face in faces):
        listing.notes.append("RAF-DB has no validation split; the one here is not the owner's.")
    return faces


def _read_folders(base: Path, settings: DomainSettings) -> Listing:
    listing = Listing()
    listing.faces = _in_class_folders(base, settings, listing)
    return listing


def _find_kaggle(path: Path) -> Path | None:
    return base_below(path, ("raf-db-dataset",), lambda base: has_split_classes(base / "DATASET", LABELS))


def _read_kaggle(base: Path, settings: DomainSettings) -> Listing:
    """DATASET/{train,test}/{1..7}/, and beside it train_labels.csv and test_labels.csv, which may disagree."""
    listing = _read_folders(base / "DATASET", settings)
    labels = {**LABELS, **settings.labels}
    entries(base, base)
    for split in ("train", "test"):
        path = base / f"{split}_labels.csv"
        if not path.is_file():
            listing.notes.append(f"{path} is not there; the labels are those of the folders.")
            continue
        faces = {face.file.name: face for face in listing.faces if face.file and face.split == split}
        seen: dict[str, tuple[str, str]] = {}
        for place, row in table(path, ["label"]):
            name = PurePosixPath(row.get("image") or next((row[key] for key in row if key != "label"), "")).name
            expression = expression_of(row["label"], labels, place)
            if not first_of(name, place, row["label"], seen, listing):
                continue
            if (face := faces.get(name)) is None:
                if expression != LEFT_OUT:
                    what = f"{name} is listed, but is not in DATASET/{split}."
                    listing.faults.append(Fault("missing", place, what))
            elif face.expression != expression:
                what = f"{name} is {expression} here and {face.expression} by its folder. The folder counts."
                listing.faults.append(Fault("label", place, what))
        listing.faults += [
            Fault("extra", face.id, f"{face.file} is there, but {path.name} does not name it.")
            for name, face in faces.items()
            if name not in seen
        ]
    return listing


def _find_folders(path: Path) -> Path | None:
    return base_below(path, (), lambda base: has_split_classes(base, LABELS))


# --------------------------------------------------------------------------------------------------- labels in the name


def _find_suffix(path: Path) -> Path | None:
    def fits(base: Path) -> bool:
        names = [image.stem for image in base.glob("*.jpg")] if base.is_dir() else []
        return bool(names) and all(SUFFIX.fullmatch(name) for name in names)

    return base_below(path, (), fits)


def _read_suffix(base: Path, settings: DomainSettings) -> Listing:
    """img001_4.jpg: the label stands in the name, and nothing says the split."""
    rows = [
        (str(entry.path), Path(entry.path), match[1])
        for entry in entries(base, base)
        if (match := SUFFIX.fullmatch(Path(entry.name).stem)) and entry.name.lower().endswith(".jpg")
    ]
    return _without_splits(rows, base, base, settings)


def _find_labels_file(path: Path) -> Path | None:
    return base_below(path, (), lambda base: (base / "labels.txt").is_file() and (base / "images").is_dir())


def _read_labels_file(base: Path, settings: DomainSettings) -> Listing:
    """images/ and labels.txt with lines `name label`."""
    entries(base, base)
    rows = [
        (place, base / "images" / PurePosixPath(name.replace("\\", "/")).name, label)
        for place, name, (label,) in list_file(base / "labels.txt")
    ]
    listing = _without_splits(rows, base, base / "labels.txt", settings)
    _note_extra(base, images(base / "images", base), {image for _, image, _ in rows}, listing)
    return listing


def _without_splits(rows: list[tuple[str, Path, str]], base: Path, source: Path, settings: DomainSettings) -> Listing:
    """Faces of (place, image, native label). The split is the owner's where all names say it, else a share is taken."""
    listing, files, faces = Listing(), Files(base), []
    seen: dict[str, tuple[str, str]] = {}
    labels = _numbering({native for _, _, native in rows}, settings, source, listing)
    for place, image, native in rows:
        expression = expression_of(native, labels, place)
        if not first_of(image.name, place, native, seen, listing):
            continue
        if expression == LEFT_OUT:
            listing.dropped[native] += 1
        elif not files.has(image):
            listing.faults.append(Fault("missing", place, f"{image} is listed, but is not there."))
        else:
            identity = image.relative_to(base).as_posix()
            faces.append(Face(identity, _owner_split(image) or "", expression, native, image))
    if faces and all(face.split for face in faces):
        listing.faces = faces
    elif faces:
        listing.faces = with_splits(faces, settings)
        listing.notes.append(f"Nothing says the splits; {settings.test_share:g} of each expression is the test split.")
    return listing


DATASET = Dataset(
    name="rafdb",
    title="RAF-DB",
    layouts=(
        Layout(
            "raf-official", f"Image/aligned/train_00001_aligned.jpg, EmoLabel/{LIST}", _find_official, _read_official
        ),
        Layout(
            "raf-split-lists",
            "Image/aligned/train_00001_aligned.jpg, EmoLabel/list_train_label.txt, EmoLabel/list_test_label.txt",
            _find_split_lists,
            _read_split_lists,
        ),
        Layout(
            "raf-adacm-list",
            f"Image/aligned/train_00001_aligned.jpg, EmoLabel/{LIST} with three columns",
            _find_three_columns,
            _read_three_columns,
        ),
        Layout(
            "raf-kaggle",
            "DATASET/{train,test}/{1..7}/*.jpg, train_labels.csv, test_labels.csv",
            _find_kaggle,
            _read_kaggle,
        ),
        Layout(
            "raf-imagefolder",
            "{train,val,valid,test,train_set,val_set}/{1..7 or expression}/*.jpg",
            _find_folders,
            _read_folders,
        ),
        Layout("raf-flat", f"{{train,valid}}/train_00001_aligned.jpg, {LIST}", _find_flat, _read_flat),
        Layout(
            "raf-pathlist-0based",
            "*.txt with lines `/any/path/train_00001_aligned.jpg 4` (0..6), the images anywhere below",
            _find_path_list,
            _read_path_list,
        ),
        Layout(
            "raf-suffix", "img001_4.jpg, the label at the end of the name", _find_suffix, _read_suffix, official=False
        ),
        Layout(
            "raf-labels",
            "images/*.jpg, labels.txt with lines `name label`",
            _find_labels_file,
            _read_labels_file,
            False,
        ),
        Layout(
            "raf-original",
            f"Image/original/train_00001.jpg, EmoLabel/{LIST}: whole photographs",
            _find_original,
            _read_original,
            asked_only=True,
        ),
    ),
    request=(
        "Write from an address of your institution to the owners, who ask for non-commercial research only: "
        "http://www.whdeng.cn/RAF/model1.html"
    ),
    expected={
        "train": {
            "surprise": 1290,
            "fear": 281,
            "disgust": 717,
            "happiness": 4772,
            "sadness": 1982,
            "anger": 705,
            "neutral": 2524,
        },
        "test": {
            "surprise": 329,
            "fear": 74,
            "disgust": 160,
            "happiness": 1185,
            "sadness": 478,
            "anger": 162,
            "neutral": 680,
        },
    },
)

"""Read CAER-S (Lee, Kim, Kim, Park, Sohn, ICCV 2019): about 70,000 stills of television programmes, whole scenes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fergen_bench.datasets.class_folders import has_split_classes, split_class_folders
from fergen_bench.datasets.numbering import label_map
from fergen_bench.datasets.reader import Dataset, Layout, Listing

if TYPE_CHECKING:
    from fergen_bench.datasets.settings import DomainSettings

LABELS = {
    "Anger": "anger",
    "Disgust": "disgust",
    "Fear": "fear",
    "Happy": "happiness",
    "Neutral": "neutral",
    "Sad": "sadness",
    "Surprise": "surprise",
}


def _read(base: Path, settings: DomainSettings) -> Listing:
    listing = Listing(notes=["CAER-S has whole scenes: faces are not cropped."])
    listing.faces = list(split_class_folders(base, label_map(LABELS, settings), listing))
    return listing


DATASET = Dataset(
    name="caer-s",
    title="CAER-S",
    layouts=(
        Layout(
            "caers-official",
            "{train,test}/{Anger,Disgust,Fear,Happy,Neutral,Sad,Surprise}/*.png",
            lambda path: has_split_classes(path, path),
            _read,
            roots=("CAER-S",),
        ),
    ),
    request="Ask the authors of “Context-Aware Emotion Recognition Networks” (ICCV 2019); for research only.",
)

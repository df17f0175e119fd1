"""Define the keys of a table [domains.NAME] of bench.toml: how a dataset is read."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.files.bounded import printable

Folder = Annotated[Path, BeforeValidator(lambda value: Path(value) if isinstance(value, str) else value)]
LabelRule = Literal["majority", "probability", "multi-target", "argmax8", "argmax10"]


class Table(BaseModel):
    """A table of bench.toml, which refuses unknown keys and values of another type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class DomainSettings(Table):
    """The table [domains.NAME]: a dataset on the disk, or a folder that is prepared already."""

    path: Folder
    """the folder or file; relative to bench.toml"""
    dataset: str | None = None
    """the dataset: rafdb, ferplus, …, or folder, csv or list; by default the dataset of the table's name, else
    folder"""
    layout: str | None = None
    """the name of a layout of the dataset; recognised where only one fits"""
    labels: dict[str, str] = {}
    """native labels that are not usual names → one of the seven expressions, or "" to leave them out"""
    numbering: str | None = None
    """the meaning of labels that are numbers: 0-based or 1-based, for the dataset's own order; or a known order such as
    affectnet-0-based; by default the dataset's own numbers
    """
    columns: dict[str, str] = {}
    """for csv: the column of the image, label, split, subject, left, top, width, height, right or bottom; for lists of
    more than two columns: the number of the label's, where the path is column 1
    """
    images: Folder | None = None
    """for csv and list: the folder to which paths in the file are relative; relative to bench.toml; by default the
    folder of the file. Absolute paths must lie in it; "/" allows all
    """
    follow_links: bool = False
    """follows links that lead out of path or images, instead of refusing them"""
    label_rule: LabelRule = "majority"
    """for ferplus: the rule that turns ten votes into a label"""
    label_source: Literal["fer2013new", "label.csv"] | None = None
    """for ferplus: which of the two official files of votes counts; by default fer2013new where it exists"""
    crop: Literal["faces"] | None = None
    """for whole photographs: faces finds the largest face in every image and cuts it out; needs the extra `faces`"""
    margin: Annotated[float, Field(ge=0, le=1)] = 0.0
    """where a box marks the face: the share of its side that is added on each side"""
    emulate_bgr: bool = False
    """reverses the colour channels, as published code did for some targets"""
    white: Annotated[float, Field(gt=0, le=65535)] | None = None
    """the level that means white in images of more than 8 bits, such as 4095; by default decided over all of them"""
    allow_missing: bool = False
    """leaves out listed files that are missing or cannot be read, instead of refusing them"""
    size: Annotated[int, Field(ge=16, le=1024)] | None = None
    """side in pixels to which faces are resized; by default they keep their size where all share one of at most 224,
    else 224
    """
    subject: str | None = None
    """regular expression with one group that finds the subject in a file name, for splits with disjoint subjects"""
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """share of each expression that becomes the test split, where the dataset does not have splits"""
    split_seed: int = 0
    """seed of that split"""

    @field_validator("subject")
    @classmethod
    def _pattern(cls, subject: str | None) -> str | None:
        if subject is None:
            return None
        try:
            with warnings.catch_warnings(action="ignore"):  # of what later versions of Python may read otherwise
                groups = re.compile(subject).groups
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"this is not a regular expression: {error}") from None
        if groups != 1:
            raise ValueError("the pattern needs exactly one (group)")
        return subject

    @field_validator("labels")
    @classmethod
    def _expressions(cls, labels: dict[str, str]) -> dict[str, str]:
        for folder, name in labels.items():
            if name and name not in EXPRESSIONS:
                raise ValueError(f"{folder} is mapped to {name!r}, which is not one of {', '.join(EXPRESSIONS)}")
        return {printable(folder): name for folder, name in labels.items()}

"""Predict the expressions of the faces in photographs and videos with a checkpoint or a finished model."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fergen_bench.api.convention_options import ConventionOptions
from fergen_bench.api.display import Display, display
from fergen_bench.api.export import RUN_KEY
from fergen_bench.api.options import from_keywords, keywords
from fergen_bench.api.run import check_device, open_project
from fergen_bench.error import BenchError
from fergen_bench.wording import many

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from fergen_bench.experiment.project import Project
    from fergen_bench.finished.convention import Convention
    from fergen_bench.finished.model import FinishedModel
    from fergen_bench.prediction.answer import Answer
    from fergen_bench.prediction.predictor import Classifier

Crop = Literal["faces", "none"]
CROPS: tuple[Crop, ...] = ("faces", "none")
PER_SECOND = 5.0
"""Pictures of each second of a video that are answered."""


@dataclass(frozen=True)
class Request:
    """The options of a prediction; see `predict`."""

    crop: Crop = "faces"
    margin: float | None = None
    at_least: float = 0.0
    per_second: float = PER_SECOND
    show: Path | None = None

    def __post_init__(self) -> None:
        if self.crop not in CROPS:
            raise BenchError(f"crop: {self.crop!r} is not a way to crop; choose faces or none")
        if self.margin is not None and not -0.3 <= self.margin <= 1:
            raise BenchError(f"margin: {self.margin} is not a share from -0.3 to 1")
        if not 0 <= self.at_least <= 1:
            raise BenchError(f"at_least: {self.at_least} is not a probability; choose one from 0 to 1")
        if not 0.01 <= self.per_second <= 1000:
            raise BenchError(f"per_second: {self.per_second} is not a rate; choose one from 0.01 to 1000")


@dataclass(frozen=True)
class Prediction:
    """The outcome of a prediction.

    Attributes:
        frame: One row per face.
        files: The number of files.
        unread: The files that could not be read, or not to their end.
        shown: The pictures and videos that were written.
    """

    frame: pd.DataFrame
    files: int
    unread: Sequence[Path]
    shown: Sequence[Path]


def predict(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    model: str | os.PathLike[str],
    *,
    crop: Crop = "faces",
    margin: float | None = None,
    at_least: float = 0.0,
    per_second: float = PER_SECOND,
    show: str | os.PathLike[str] | None = None,
    parameters: Mapping[str, Any] | None = None,
    device: str | None = None,
    project: Project | str | Path | None = None,
    progress: bool = True,
    **convention: Any,
) -> pd.DataFrame:
    """Predict the expressions of the faces in photographs and videos.

    Faces are found and cropped as those that the model was trained on, as far as its record or file states how.

    Args:
        paths: A photograph, a video, a folder with such files, or several of them.
        model: The record of a run with `keep_models=True` or of an evaluated model, by path or key; or a model file
            as `evaluate` takes it: ONNX, such as those of `export`, or "timm:resnet18//data/fer.pth".
        crop: "faces" finds the faces in a picture; "none" takes every picture as a face.
        margin: Share of its side that is added on each side of a face. Default: that of the training images.
        at_least: Faces whose highest probability is lower are "uncertain".
        per_second: Pictures of each second of a video that are answered.
        show: A folder for the pictures with boxes and expressions, and the expressions over the time of a video.
        parameters: Where files of weights are on this machine, by the parameter that names them.
        device: "auto", "cpu", "cuda" or "cuda:1". Default: that of bench.toml.
        project: The project, or a folder in it. Default: that of the working directory.
        progress: Show a bar in a terminal and in a notebook.
        **convention: What the file of the model does not state: `classes`, such as "affectnet-7" or a list, `mean`,
            `deviation` and the other fields of `ConventionOptions`, as in `evaluate`. A note names what is used.
            Records and files of `export` state theirs, and refuse another.

    Returns:
        One row per face: file, seconds (of a video), face, left, top, width, height, expression, confidence, score (of
        the detector), and the probability of each expression. Files without a face do not have a row.

    Raises:
        BenchError: The model cannot be opened, a package is missing, or no file can be read.
        TypeError: A keyword does not exist.
    """
    stated: ConventionOptions = from_keywords(
        convention, ConventionOptions, "predict", others=predict.__kwdefaults__ or ()
    )
    where = open_project(project)
    request = Request(crop, margin, at_least, per_second, None if show is None else Path(show))
    files = named_files([paths] if isinstance(paths, str | os.PathLike) else paths, request)
    classifier = open_classifier(where, str(model), device, parameters or {}, crop, stated)
    for note in classifier.notes:
        warnings.warn(note, UserWarning, stacklevel=2)
    with display(progress) as shown:
        done = predicted(
            files, classifier, request, shown, lambda remark: warnings.warn(remark, UserWarning, stacklevel=4)
        )
    return done.frame


def named_files(paths: Iterable[str | os.PathLike[str]], request: Request) -> list[Path]:
    """Return the photographs and videos that paths name; see `prediction.media.media_files`."""
    from fergen_bench.prediction.media import media_files

    named = list(paths)
    if not named or "" in named:  # as a path, "" is the working directory
        raise BenchError(f"predict: {named} names no file; name photographs, videos, or a folder with such files")
    return media_files(map(Path, named), request.show)


def predicted(
    files: Sequence[Path], classifier: Classifier, request: Request, shown: Display, remark: Callable[[str], None]
) -> Prediction:
    """Predict the expressions in files; see `predict`.

    Args:
        files: Photographs and videos.
        classifier: The model.
        request: The options.
        shown: Shows the progress.
        remark: Receives a sentence about each file that needs one.
    """
    from fergen_bench.datasets.detector import open_detector
    from fergen_bench.prediction.answer import table
    from fergen_bench.prediction.predictor import Predictor
    from fergen_bench.prediction.showing import answered, places

    detector = open_detector() if request.crop == "faces" else None
    margin = request.margin if request.margin is not None else classifier.crop.margin or 0.0
    predictor = Predictor(classifier, detector, margin)
    pictures = [None] * len(files) if request.show is None else places(request.show, files)
    answers: list[Answer] = []
    written: list[Path] = []
    for number, (file, place) in enumerate(zip(files, pictures, strict=True), start=1):
        said = len(predictor.remarks)
        done = answered(predictor, file, request.per_second, request.at_least, place)
        answers += done.answers
        written += done.shown
        if len(files) == 1 and predictor.unread and not answers:
            raise BenchError(predictor.remarks[-1])
        for sentence in predictor.remarks[said:]:
            remark(sentence)
        shown.preparation("predicting", number, len(files))
    if len(predictor.unread) == len(files) and not answers:
        raise BenchError(f"none of {many(len(files), 'file')} can be read; name photographs or videos")
    if detector is not None and not answers:
        remark("no file has a face that the detector finds; if the pictures are cropped faces, take --crop none")
    return Prediction(table(answers, request.at_least), len(files), predictor.unread, written)


# -------------------------------------------------------------------------------------------------------------- models


def open_classifier(
    project: Project,
    model: str,
    device: str | None,
    parameters: Mapping[str, Any],
    crop: Crop,
    stated: ConventionOptions,
) -> Classifier:
    """Open a checkpoint, a file of a finished model, or the finished model of a record.

    Args:
        project: The project, for the device and for keys of records.
        model: A record, its key, an ONNX file, or a network with the file of its weights.
        device: The device; None for that of the project.
        parameters: Paths of weights on this machine, for a checkpoint.
        crop: The way in which faces will be cropped.
        stated: The convention of a model whose file does not state it.

    Raises:
        BenchError: The model cannot be opened.
    """
    from fergen_bench.execution.fitted import find_record
    from fergen_bench.execution.fleet import resolve_device
    from fergen_bench.experiment.run import EXTERNAL
    from fergen_bench.finished.model import is_network
    from fergen_bench.records.sidecar import CHECKPOINT
    from fergen_bench.records.store import RecordFile

    chosen = resolve_device(check_device(device or project.settings.device))
    if is_network(model) or Path(model).suffix not in {"", ".json", CHECKPOINT}:
        _refuse_places(parameters)
        return _from_file(model, chosen, crop, stated)
    path = find_record(project, model)
    _refuse(stated, "a record")
    if RecordFile.open(path).record.spec.method.startswith(EXTERNAL):
        _refuse_places(parameters)
        return _from_evaluation(path, chosen, crop)
    return _kept(project, path, chosen, parameters)


def _kept(project: Project, path: Path, device: str, parameters: Mapping[str, Any]) -> Classifier:
    """Return the classifier of a checkpoint."""
    from fergen_bench.data.facts import FaceCrop
    from fergen_bench.execution.fitted import open_fitted
    from fergen_bench.prediction.predictor import Classifier

    fitted = open_fitted(project, path, device, parameters)
    notes = () if fitted.calibration is not None else (UNCALIBRATED,)
    return Classifier(fitted.record.spec.title, fitted.probabilities, FaceCrop.of(fitted.trained_on), notes)


def _refuse_places(parameters: Mapping[str, Any]) -> None:
    """Refuse the places of weights for a model that is no checkpoint."""
    if parameters:
        raise BenchError("--set: is ineffective with a finished model. Leave it out.")


def _refuse(stated: ConventionOptions, what: str) -> None:
    """Refuse a convention that the user states for a model whose convention is known."""
    if given := [name for name in keywords(ConventionOptions) if getattr(stated, name) is not None]:
        raise BenchError(f"--{given[0]}: is ineffective with {what}, which states it. Leave it out.")


def _from_file(value: str, device: str, crop: Crop, own: ConventionOptions) -> Classifier:
    """Return the classifier of a finished model under what its file and the user state of its convention."""
    from fergen_bench.finished.stated import assumed, open_stated, stated_convention

    model, stated = open_stated(value, own.stated, "predict", device=device, output=own.output)
    if _run_of(model):
        _refuse(own, "a file of export")
    convention = stated_convention(model, stated)
    named = [f"convention: {convention.whole}"] if own.stated else []
    return _finished(model, convention, crop, assumed(model, stated, convention) or named)


def _from_evaluation(path: Path, device: str, crop: Crop) -> Classifier:
    """Return the classifier of a model that was evaluated."""
    from fergen_bench.finished.record import recorded_model
    from fergen_bench.records.store import load

    model, convention = recorded_model(load(path), device=device)
    return _finished(model, convention, crop)


def _run_of(model: FinishedModel) -> Mapping[str, Any]:
    """Return what an exported file states about its run; nothing for other files."""
    try:
        about = json.loads(model.metadata.get(RUN_KEY, "{}"))
    except ValueError:
        return {}
    return about if isinstance(about, dict) else {}


def _finished(model: FinishedModel, convention: Convention, crop: Crop, notes: Sequence[str] = ()) -> Classifier:
    """Return the classifier of a finished model, with notes on its convention unless the file was exported here.

    A margin of the convention repeats the edges of images that are cropped already. Around a face that is cropped here,
    it is cut out of the photograph instead.
    """
    from fergen_bench.data.facts import FaceCrop
    from fergen_bench.finished.stated import left_over
    from fergen_bench.prediction.predictor import Classifier

    about = _run_of(model)
    used = [] if about else [*notes, *left_over(convention)]
    faces = FaceCrop.from_json(about.get("faces"))
    faces = replace(faces, size=faces.size or convention.size)
    if crop == "faces" and convention.margin:
        faces = replace(faces, margin=(faces.margin or 0.0) + convention.margin)
        convention = replace(convention, margin=0.0)
    calibrated = about.get("temperature") is not None

    def probabilities(faces: np.ndarray) -> np.ndarray:
        import numpy as np

        logits = convention.logits(model(convention.prepare(faces))).astype(np.float64)
        shares = np.exp(logits - logits.max(1, keepdims=True))
        return np.asarray(shares / shares.sum(1, keepdims=True))

    return Classifier(model.name, probabilities, faces, (*model.notes, *used, *([] if calibrated else [UNCALIBRATED])))


UNCALIBRATED = "the probabilities are not calibrated: predictions on images held out of the training are missing"
"""The note of models without a temperature."""

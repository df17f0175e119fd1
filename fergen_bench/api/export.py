"""Write the checkpoint of a run as an ONNX file, with its preprocessing inside."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fergen_bench.api.run import open_project
from fergen_bench.error import BenchError

if TYPE_CHECKING:
    import numpy as np

    from fergen_bench.execution.fitted import FittedModel
    from fergen_bench.experiment.project import Project
    from fergen_bench.records.record import RunRecord

COMPARED = 64
"""Images of a source on which the file is compared with the method."""


@dataclass(frozen=True)
class Written:
    """A file that was written.

    Attributes:
        path: The file.
        record: The record of the run.
        difference: The largest difference between logits of the file and of torch.
        images: The number of images that they were compared on.
        calibration: The temperature of the probabilities and the number of held-out images that it was fitted to; None
            where the record has none, and the probabilities are those of the method.
    """

    path: Path
    record: RunRecord
    difference: float
    images: int
    calibration: tuple[float, int] | None


def export(
    record: str | os.PathLike[str],
    to: str | os.PathLike[str],
    *,
    parameters: Mapping[str, Any] | None = None,
    project: Project | str | Path | None = None,
) -> Path:
    """Write the checkpoint of a run as an ONNX file.

    The file takes images uint8 (batch, height, width, 3) of any size, RGB, and returns probabilities (batch, 7) in the
    order of `EXPRESSIONS`, so that `evaluate` on it gives the confusion matrices of the record. They are calibrated
    where the record has predictions on held-out images of its sources.

    Args:
        record: The record of a run with `keep_models=True`: its path, or its key.
        to: The file to write, such as model.onnx.
        parameters: Where files of weights are on this machine, by the parameter that names them.
        project: The project, or a folder in it. Default: that of the working directory.

    Returns:
        The path of the file.

    Raises:
        BenchError: The record lacks a checkpoint, the method cannot be exported, or a package is missing.
    """
    return write(open_project(project), record, Path(to), parameters or {}).path


def write(project: Project, record: str | os.PathLike[str], to: Path, parameters: Mapping[str, Any]) -> Written:
    """Write the checkpoint of a run as an ONNX file; see `export`."""
    from fergen_bench.execution.fitted import find_record, open_fitted

    if to.suffix != ".onnx":
        raise BenchError(f"{to}: the name of the file must end in .onnx")
    fitted = open_fitted(project, find_record(project, Path(record)), "cpu", parameters, precision="fp32")
    exported = fitted.export(to, _samples(project, fitted), _metadata(fitted))
    return Written(to, fitted.record, exported.difference, exported.images, fitted.calibration)


def _samples(project: Project, fitted: FittedModel) -> Sequence[np.ndarray]:
    """Return the images on which a file is compared with its method.

    They are test images of a source where one is prepared, and noise of other sizes, to which a file must apply, too.
    """
    import numpy as np

    from fergen_bench.api import prepared

    spec = fitted.record.spec
    found: list[np.ndarray] = []
    for name in spec.sources:
        domain = prepared.domain(project, spec.suite, name)
        if domain is not None and not found:
            found.append(np.array(domain.faces[domain.rows("test")[:COMPARED]]))
    noise = np.random.default_rng(0)
    sizes = ((64, 64), (48, 48), (150, 110)) if not found else ((48, 48), (150, 110))
    return [*found, *(noise.integers(0, 256, (4, height, width, 3), np.uint8) for height, width in sizes)]


RUN_KEY = "fergen_bench.run"
"""Key of the metadata of a file: the run, the calibration, and the images that it was trained on, as JSON."""


def _metadata(fitted: FittedModel) -> dict[str, str]:
    """Return the metadata of a file: its convention, and where it comes from."""
    from dataclasses import asdict

    from fergen_bench.data.facts import FaceCrop
    from fergen_bench.finished.convention import Convention

    convention = Convention(range="uint8", layout="nhwc", output="probabilities")
    record, calibration = fitted.record, fitted.calibration
    about = {
        "method": record.spec.label,
        "suite": record.spec.suite,
        "sources": list(record.spec.sources),
        "seed": record.spec.seed,
        "selection": record.spec.selection,
        "key": record.spec.key,
        "temperature": None if calibration is None else calibration[0],
        "held_out": 0 if calibration is None else calibration[1],
        "faces": asdict(FaceCrop.of(fitted.trained_on)),
    }
    return {**convention.metadata(), RUN_KEY: json.dumps(about)}

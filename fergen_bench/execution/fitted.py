"""Open the checkpoint of a run: its record, and the fitted method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fergen_bench.error import BenchError, did_you_mean
from fergen_bench.experiment.parameters import anchored_values
from fergen_bench.files.bounded import is_path
from fergen_bench.networks import hub
from fergen_bench.networks.name import digest_of
from fergen_bench.progress import silent
from fergen_bench.records import listing
from fergen_bench.records.record import HELD_OUT
from fergen_bench.records.sidecar import CHECKPOINT, PREDICTIONS, sidecar
from fergen_bench.records.store import RecordFile
from fergen_bench.wording import listed

if TYPE_CHECKING:
    import numpy as np

    from fergen_bench.data.facts import DataFacts
    from fergen_bench.experiment.method_file import MethodFile
    from fergen_bench.experiment.project import Project
    from fergen_bench.experiment.run import Precision, Run
    from fergen_bench.records.record import RunRecord
    from fergen_bench.training.contract import Method
    from fergen_bench.training.export import Exported

SHORTEST_KEY = 4
"""The fewest digits of a key that may stand for it."""


@dataclass(frozen=True)
class FittedModel:
    """The fitted method of a run.

    Attributes:
        file: The record.
        method: The fitted method, on `device`. Its `predict` includes the options of scoring of the run.
        device: The device.
    """

    file: RecordFile
    method: Method
    device: str

    @property
    def record(self) -> RunRecord:
        """The content of the record."""
        return self.file.record

    @cached_property
    def calibration(self) -> tuple[float, int] | None:
        """The temperature that suits images held out of the sources, and their number; None without such images."""
        from fergen_bench.metric import fit_temperature

        held = self.file.predictions().get(HELD_OUT) if self.file.has(PREDICTIONS) else None
        if held is None or not len(held.scored[1]):
            return None
        return fit_temperature(*held.scored), len(held.scored[1])

    @property
    def trained_on(self) -> Sequence[DataFacts]:
        """The facts about its sources; empty for records of early versions."""
        return [self.record.data[name] for name in self.record.spec.sources if name in self.record.data]

    @property
    def bgr(self) -> bool:
        """True where the colours of all its sources are reversed."""
        return bool(self.trained_on) and all(facts.bgr for facts in self.trained_on)

    def export(self, path: Path, samples: Sequence[np.ndarray], metadata: Mapping[str, str]) -> Exported:
        """Write the method as an ONNX file, calibrated where that is possible; see `training.export.export_method`.

        Args:
            path: The file.
            samples: Batches of images uint8 (B, height, width, 3), RGB, on which the file is compared with the method.
            metadata: Texts to store in the file, by key.
        """
        from fergen_bench.training.export import export_method

        temperature = (self.calibration or (1.0, 0))[0]
        return export_method(self.method, path, samples, temperature=temperature, bgr=self.bgr, metadata=metadata)

    def probabilities(self, faces: np.ndarray) -> np.ndarray:
        """Return the probabilities of faces, calibrated where that is possible.

        Args:
            faces: uint8 (B, height, width, 3), RGB.

        Returns:
            float32 (B, 7).
        """
        import torch

        images = torch.from_numpy(faces).permute(0, 3, 1, 2).to(self.device)
        with torch.no_grad():
            logits = self.method.predict(images.flip(1) if self.bgr else images).float()
        return torch.softmax(logits / (self.calibration or (1.0, 0))[0], 1).cpu().numpy()


def find_record(project: Project, name: str | Path) -> Path:
    """Return the path of a record.

    Args:
        project: The project, whose results are searched for a key.
        name: The path of the record or of its checkpoint; or its key, or the first digits of it.

    Raises:
        BenchError: The record does not exist, or there are several.
    """
    path = Path(name).expanduser()
    if path.suffix not in {"", ".json", CHECKPOINT} and path.is_file():
        raise BenchError(
            f"{path}: is neither a record nor its checkpoint; name a record's .json file, or its key. `fergen-bench "
            f"evaluate` scores a model that was trained elsewhere"
        )
    if path.suffix == CHECKPOINT:
        weights, path = path, path.with_name(path.name.removesuffix(CHECKPOINT) + ".json")
        if weights.is_file() and not path.is_file():
            raise BenchError(
                f"{weights}: has no record beside it, {path.name}, so its network is unknown; put the record there, or "
                f"name both as timm:NAME//path or open_clip:NAME//path for `evaluate` or `predict`"
            )
    if path.suffix == ".json" or len(path.parts) > 1:
        if not path.is_file():
            raise BenchError(f"{path}: this record does not exist; name one such as results/runs/…/….json, or a key")
        return path
    runs, key = project.results / "runs", str(name)
    found = [one for one in listing.candidates(runs)[0] if one.stem.rpartition("-")[2].startswith(key)]
    if len(key) < SHORTEST_KEY or not found:
        raise BenchError(
            f"{key!r}: {runs} lacks a record with this key; name the path of a record, or its key as in its file name"
        )
    if len(found) > 1:
        raise BenchError(f"{key!r}: {len(found)} records have keys that begin so: {listed(p.name for p in found)}")
    return found[0]


def open_fitted(
    project: Project,
    path: Path,
    device: str,
    changes: Mapping[str, Any] | None = None,
    precision: Precision | None = None,
) -> FittedModel:
    """Restore the fitted method of a record from its checkpoint.

    The code comes from this project only, by the name of the method; a checkpoint contains none.

    Args:
        project: The project.
        path: The record.
        device: cpu, cuda or cuda:1.
        changes: Paths of weights on this machine, by parameter.
        precision: Precision of frozen networks; None for the one that is nearest to the record's on this device.

    Raises:
        BenchError: The record lacks a checkpoint, or the method or its weights differ from those of the record.
    """
    import torch

    from fergen_bench.execution.layer import ScoringLayer
    from fergen_bench.training.contract import Context
    from fergen_bench.training.load import load_method
    from fergen_bench.training.saved import restore_method

    file = RecordFile.open(path)
    if file.record.spec.online:
        raise BenchError(
            f"{path}: {file.record.spec.method} adapts to a stream of test images, so its runs leave no checkpoint; "
            f"name a run of the method that it starts from"
        )
    if not file.has(CHECKPOINT):
        raise BenchError(
            f"{path}: this record lacks a checkpoint beside it; repeat its run with --keep-models --rerun to write one"
        )
    file.check(CHECKPOINT)
    method_file = project.method(file.record.spec.method)
    spec = identified(file.record, method_file, path, changes or {})
    method = load_method(method_file.path, method_file.class_name, method_file.completed(spec.parameters))
    context = Context(spec.seed_name, spec.seed, spec.selection, torch.device(device), project.cache, silent)
    context.precision = precision or _nearest_precision(file.record, device)
    restore_method(sidecar(path, CHECKPOINT), method, context)
    if spec.trained != spec:
        # Answers and exported files give what the run was scored on.
        layer = ScoringLayer.of_record(spec, file.arrays(), str(path))
        method.predict = partial(layer.logits, method.predict)  # type: ignore[method-assign]
    return FittedModel(file, method, device)


def _nearest_precision(record: RunRecord, device: str) -> Precision:
    """Return the precision on a device in which predictions are nearest to those of a record.

    It is that of the record. But frozen networks compute in fp16 with bf16 on a GPU, to which fp32 is nearer on a CPU.
    """
    return "fp32" if device == "cpu" and "cuda" in record.environment else record.spec.precision


def identified(done: RunRecord, method: MethodFile, path: Path, changes: Mapping[str, Any]) -> Run:
    """Return the run of a record with the weights of this machine.

    Args:
        done: The record.
        method: The method file here.
        path: The path of the record, for errors.
        changes: Paths of weights on this machine, by parameter.

    Raises:
        BenchError: The method has another version, or weights are other ones.
    """
    spec = done.spec
    if method.version != spec.version:
        raise BenchError(
            f"{path}: was made by version {spec.version} of the method {spec.method}, and {method.path} is version "
            f"{method.version}; take the file of its commit, {done.method_commit or 'which is unknown'}"
        )
    for name in changes:
        if name not in spec.weights:
            raise BenchError(
                f"--set {name}: a finished run takes no other parameters, only where weights are"
                f"{did_you_mean(name, spec.weights)}"
            )
    moved = anchored_values(method, method.checked(changes, "--set"), Path())
    parameters = {**method.checked(spec.parameters, str(path)), **moved}
    digests = {name: digest_of(parameters[name], f"{path}: {name}") for name in spec.weights}
    here = replace(spec, parameters=parameters, weights=digests)
    for name, digest in spec.weights.items():
        if digests[name] != digest:
            raise BenchError(
                f"{path}: was made with {digest} as {name}, and {parameters[name]} is {digests[name]}; name the right "
                f"file with --set {name}=…"
            )
    if here.key != spec.key:
        raise BenchError(f"{path}: {method.path} reads its parameters differently, so the run cannot be repeated")
    hub.require((f"--set {name}=", parameters[name]) for name in digests if not is_path(parameters[name]))
    return here

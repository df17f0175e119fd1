"""Open a finished model: an ONNX file, weights of a known network, or a Python callable."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.datasets.numbering import ORDERS
from fergen_bench.error import BenchError, RunError, reason
from fergen_bench.files.bounded import is_path, is_program
from fergen_bench.wording import many

if TYPE_CHECKING:
    import numpy as np

    from fergen_bench.data.domain import Split
    from fergen_bench.finished.convention import Convention
    from fergen_bench.progress import Progress

Kind = Literal["onnx", "network", "callable"]
BATCH = 64
"""Images in one call of a model whose batches may have any size."""

_CONVERT: Mapping[tuple[str, ...], str] = {
    (".pt", ".pth", ".ckpt", ".bin", ".safetensors"): (
        "this file has weights without a network; name both, as timm:NAME//path or open_clip:NAME//path, or convert "
        "the model with torch.onnx.export(model.eval(), example, 'model.onnx')"
    ),
    (".pt2",): (
        "this is a program exported by torch, whose archive may contain pickled objects, so it is not loaded; convert "
        "it with torch.onnx.export(program.module(), example, 'model.onnx')"
    ),
    (".pkl", ".pickle", ".joblib"): (
        "a pickle can run code when it is loaded, so it is not loaded; convert the model to ONNX, or pass a callable "
        "to fergen_bench.evaluate"
    ),
    (".h5", ".hdf5", ".keras", ".tflite", ".pb"): (
        "models of TensorFlow are not loaded; convert it with python -m tf2onnx.convert (--keras, --tflite or "
        "--saved-model) --output model.onnx"
    ),
}
_TORCHSCRIPT = (
    "this is a program (TorchScript), and programs are not executed; convert the model that it was made of with "
    "torch.onnx.export(model.eval(), example, 'model.onnx')"
)


@dataclass(frozen=True)
class InputShape:
    """The shape of a model's input, as far as its file states it."""

    channels: int | None = None
    height: int | None = None
    width: int | None = None
    layout: Literal["nchw", "nhwc"] | None = None


@dataclass
class FinishedModel:
    """A model that is not trained here. Calling it computes its outputs.

    Attributes:
        kind: What it was opened from.
        name: Its name in tables where the user gives none.
        value: The absolute path of the file, or the name of the network with the path of its weights.
        digest: The first 16 digits of the SHA-256 of the file; empty for a callable.
        run: Computes outputs (B, classes) from a batch as `Convention.prepare` returns it.
        shape: The shape of its input.
        outputs: Number of its outputs; None if the file does not state it.
        batch: The only size of a batch that it takes; None for any.
        stated: Fields of a `Convention` that the file states.
        metadata: Texts that an ONNX file carries, by key.
        provider: The program that computes, for the record: its name and version.
        notes: Sentences for the user.
        resizes: It may compute images of another height and width than those in `shape`.
    """

    kind: Kind
    name: str
    value: str
    digest: str
    run: Callable[[np.ndarray], Any]
    shape: InputShape = field(default_factory=InputShape)
    outputs: int | None = None
    batch: int | None = None
    stated: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    provider: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    resizes: bool = False

    def check(self, stated: Mapping[str, Any]) -> None:
        """Raise where stated fields of a convention contradict the shape of the input.

        Raises:
            BenchError: They do.
        """
        shape = self.shape
        size = None if shape.height is None or shape.width is None else (shape.height, shape.width)
        for name, own in (("layout", shape.layout), ("size", size), ("channels", shape.channels)):
            if own is not None and stated.get(name, own) not in (own, None):
                raise BenchError(
                    f"{self.value}: {name}: {stated[name]} is stated, and the input of the model has {own}; state that "
                    f"or nothing"
                )
        channels = shape.channels or stated.get("channels", 3)
        if channels == 1 and stated.get("colour", "grey") != "grey":
            raise BenchError(
                f"{self.value}: colour: {stated['colour']} is stated, and the model has one channel; state grey"
            )
        for name in ("mean", "deviation"):
            if len(stated.get(name, (0.0,))) not in {1, channels}:
                raise BenchError(
                    f"{self.value}: {name}: {len(stated[name])} numbers are stated, and the model has "
                    f"{many(channels, 'channel')}; state one number, or one for each channel"
                )

    def at_size(self, size: tuple[int, int] | None) -> FinishedModel:
        """Return the model for images of a stated height and width, where it computes more sizes than that of `shape`.

        Raises:
            BenchError: It cannot compute images of this size.
        """
        import numpy as np

        if size is None or not self.resizes:
            return self
        try:
            self.run(np.zeros((1, self.shape.channels or 3, *size), np.float32))
        except Exception as error:  # networks raise errors of many types
            raise BenchError(
                f"{self.value}: size: {size[0]} x {size[1]} is stated, which this network cannot compute "
                f"({reason(error)}); leave --size out for {self.shape.height} x {self.shape.width}"
            ) from None
        stated = {**self.stated, "size": size}
        return replace(self, shape=replace(self.shape, height=size[0], width=size[1]), stated=stated)

    def fitting(self, stated: Mapping[str, Any]) -> Convention:
        """Return a convention with the stated fields, the shape of the input, and defaults for the rest."""
        from fergen_bench.finished.convention import Convention

        shape, known = self.shape, dict(stated)
        if shape.layout is not None:
            known["layout"] = shape.layout
        if shape.channels is not None:
            known["channels"] = shape.channels
        if shape.height is not None and shape.width is not None:
            known["size"] = (shape.height, shape.width)
        if known.get("channels") == 1:
            known["colour"] = "grey"
        return Convention(**known)

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        """Return the outputs of a batch.

        Args:
            batch: Images as `Convention.prepare` returns them.

        Returns:
            float (B, classes), finite.

        Raises:
            BenchError: The outputs have another shape, or are NaN or infinite.
        """
        import numpy as np

        if self.batch is None:
            outputs = self.run(batch)
        else:
            outputs = np.concatenate([self.run(part) for part in _padded(batch, self.batch)])[: len(batch)]
        outputs = np.asarray(outputs)
        if outputs.ndim != 2 or len(outputs) != len(batch) or outputs.dtype.kind != "f":
            raise BenchError(
                f"{self.value}: the output has the shape {outputs.shape} and the type {outputs.dtype} for "
                f"{many(len(batch), 'image')}; expected scores of the shape ({len(batch)}, classes); use a model whose "
                f"output has a score for each class"
            )
        if not np.isfinite(outputs).all():
            raise RunError(f"{self.value}: the model returned NaN or infinite scores; check its weights and convention")
        return outputs


def _padded(batch: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Yield a batch in parts of one size; the last repeats its last image."""
    import numpy as np

    for start in range(0, len(batch), size):
        part = batch[start : start + size]
        yield np.concatenate([part, np.repeat(part[-1:], size - len(part), 0)])


def open_model(
    value: str | Path | Callable[..., Any], *, device: str = "cpu", threads: int = 1, output: str | None = None
) -> FinishedModel:
    """Open a finished model without executing code of its file.

    Args:
        value: An ONNX file; the name of a network with the file of its weights, such as timm:resnet18//data/fer.pth; or
            a callable that returns scores (B, classes) for a batch.
        device: cpu, cuda or cuda:1.
        threads: CPU threads.
        output: The name of the output with the scores, for an ONNX file with several.

    Raises:
        BenchError: The model cannot be opened, or its format is not accepted; the error names a way to convert it.
    """
    if callable(value):
        name = getattr(value, "__name__", type(value).__name__)
        return FinishedModel("callable", name.strip("<>"), name, "", value, stated={"range": "uint8", "layout": "nhwc"})
    text = str(value)
    if is_network(text):
        from fergen_bench.finished.network import open_network

        return open_network(text, device, threads)
    path = Path(text).expanduser().resolve()
    _refuse_other_formats(path)
    from fergen_bench.finished.onnx_file import open_onnx

    return open_onnx(path, device, threads, output)


def is_network(value: str) -> bool:
    """Return True for the name of a network with its weights, such as timm:resnet18//data/fer.pth."""
    return value.partition(":")[0] in {"timm", "open_clip"} and not Path(value).exists()


def _refuse_other_formats(path: Path) -> None:
    """Raise for a file that is not ONNX, with a way to convert it."""
    if not path.is_file():
        fault = "is not a file" if path.exists() else "does not exist"
        raise BenchError(f"{path}: {fault}; name an ONNX file, or a network with its weights: timm:NAME//path")
    if path.suffix.lower() != ".pt2" and is_program(path):
        raise BenchError(f"{path}: {_TORCHSCRIPT}")
    for endings, how in _CONVERT.items():
        if path.suffix.lower() in endings:
            raise BenchError(f"{path}: {how}")
    if path.suffix.lower() != ".onnx":
        raise BenchError(f"{path}: the format is unknown; name an ONNX file (.onnx), or timm:NAME//path/to/weights")


def reopen(
    value: str, digest: str, *, device: str = "cpu", threads: int = 1, output: str | None = None
) -> FinishedModel:
    """Open the model of a record again.

    Args:
        value: The parameter `model` of the record.
        digest: The digest that the record has for it.
        device: cpu, cuda or cuda:1.
        threads: CPU threads.
        output: The parameter `output_name` of the record.

    Raises:
        BenchError: The file is not on this machine, or is another one.
    """
    if not is_path(value) and ":" not in value:
        raise BenchError(f"{value}: this record is of a Python callable, which cannot be opened again")
    model = open_model(value, device=device, threads=threads, output=output)
    if model.digest != digest:
        raise BenchError(f"{value}: this is not the file that was evaluated (its SHA-256 differs); evaluate it again")
    return model


def outputs_of(
    model: FinishedModel, convention: Convention, split: Split, report: Progress | None = None, what: str = ""
) -> np.ndarray:
    """Return the outputs of a model for all images of a split, in their order.

    Args:
        model: The model.
        convention: Its convention.
        split: The images.
        report: Receives the number of images that are done.
        what: The name of the work for `report`.

    Returns:
        float (N, classes).

    Raises:
        BenchError: The outputs are not one finite score for each class.
    """
    import numpy as np

    found = []
    for start in range(0, len(split), BATCH):
        found.append(model(convention.prepare(pixels(split, start, start + BATCH))))
        if report is not None:
            report(what, min(start + BATCH, len(split)), len(split))
    outputs = np.concatenate(found)
    check_classes(model, convention.classes, outputs.shape[1])
    return outputs


def check_classes(model: FinishedModel, classes: Sequence[str], outputs: int) -> None:
    """Raise where a model has another number of outputs than classes are stated."""
    if outputs == len(classes):
        return
    expressions = tuple(name for name in classes if name in EXPRESSIONS)
    without = next((name for name, order in ORDERS.items() if order == expressions), ",".join(expressions))
    step = "state one class for each output with --classes, and - for an output that belongs to none"
    if outputs == len(expressions):
        step = f"for the order without the classes that are not expressions: --classes {without}"
    raise BenchError(
        f"{model.value}: the model has {many(outputs, 'output')}, and {len(classes)} classes are stated "
        f"({', '.join(name or '-' for name in classes)}); {step}"
    )


def pixels(split: Split, start: int, stop: int) -> np.ndarray:
    """Return some images of a split of one domain, uint8 (n, height, width, 3), RGB."""
    (piece,) = split.pieces
    faces: np.ndarray = piece.domain.faces[piece.rows[start:stop]]
    return faces[..., ::-1] if piece.domain.about.get("emulate_bgr") else faces

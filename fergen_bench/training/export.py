"""Write a fitted method as an ONNX file, with its preprocessing inside."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from fergen_bench.error import BenchError, reason
from fergen_bench.files.atomic import atomically
from fergen_bench.networks.kernels import exporting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fergen_bench.training.contract import Method

INPUT, OUTPUT = "image", "probabilities"
"""Names of the input, uint8 RGB (batch, height, width, 3), and of the output, float32 (batch, 7), of a file."""
OPSET = 18
"""Version of the operators; the first with everything that the shipped methods need."""
LARGEST_DIFFERENCE = 1e-4
"""The largest difference between logits of the file and of torch, as a share of the largest logit above 1."""
MOST_WEIGHTS = 2_000_000_000
"""Bytes of weights that one ONNX file can hold."""
MOST_IMAGES, MOST_SIDE = 1 << 16, 1 << 14
"""The largest batch and side in pixels that the exported program is traced for."""
INSTALL = "pip install 'fergen-bench[onnx]'"

_LOGITS = "logits"


@dataclass(frozen=True)
class Exported:
    """The outcome of an export.

    Attributes:
        difference: The largest difference between logits of the file and of torch.
        images: The number of images that they were compared on.
    """

    difference: float
    images: int


def export_method(
    method: Method,
    path: Path,
    samples: Sequence[np.ndarray],
    *,
    temperature: float = 1.0,
    bgr: bool = False,
    metadata: Mapping[str, str] | None = None,
) -> Exported:
    """Write a fitted method as an ONNX file.

    The file takes images of any size as they are, resizes and normalises them as the method does, and returns
    probabilities. It is written only if its logits equal those of the method.

    Args:
        method: A fitted method on the CPU.
        path: The file; its folder is created.
        samples: Batches of images uint8 (B, height, width, 3), RGB, on which the file is compared with the method. The
            first has at least two images.
        temperature: The divisor of the logits.
        bgr: The method was trained on images with reversed colours.
        metadata: Texts to store in the file, by key.

    Raises:
        BenchError: A package is missing, or the method cannot be exported.
    """
    try:
        import onnx
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise BenchError(f"export needs the package {error.name}; install it with: {INSTALL}") from None
    name = type(method).__name__
    program = _Program(method, temperature, bgr).eval()
    size = sum(tensor.numel() * tensor.element_size() for tensor in program.state_dict().values())
    if size > MOST_WEIGHTS:
        raise BenchError(f"{name}: its weights have {size:,} bytes, and one ONNX file can hold {MOST_WEIGHTS:,}")
    with torch.no_grad():
        expected = [program(torch.from_numpy(batch))[1].numpy() for batch in samples]
        model = _traced(program, samples[0], name)
    difference = _compare(model, samples, expected, name)
    (logits,) = (output for output in model.graph.output if output.name == _LOGITS)
    model.graph.output.remove(logits)
    onnx.helper.set_model_props(model, dict(metadata or {}))
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomically(path) as draft:
        draft.write_bytes(model.SerializeToString())
    return Exported(difference, sum(map(len, samples)))


class _Program(nn.Module):
    """The computation of a file: uint8 (B, height, width, 3) → probabilities and logits (B, 7)."""

    def __init__(self, method: Method, temperature: float, bgr: bool) -> None:
        super().__init__()
        self._predict, self._temperature, self._bgr = method.predict, temperature, bgr
        # The modules are registered so that the weights in the file have names.
        self.parts = nn.ModuleDict(
            {name: value for name, value in vars(method).items() if isinstance(value, nn.Module)}
        )

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return probabilities and logits of images."""
        images = image.permute(0, 3, 1, 2)
        logits = self._predict(images.flip(1) if self._bgr else images).float()
        return torch.softmax(logits / self._temperature, 1), logits


def _traced(program: _Program, batch: np.ndarray, name: str) -> Any:
    """Return the program as an ONNX model, for batches and images of any size."""
    dimensions = {"batch": MOST_IMAGES, "height": MOST_SIDE, "width": MOST_SIDE}
    shape = {axis: torch.export.Dim(of, min=1, max=most) for axis, (of, most) in enumerate(dimensions.items())}
    # Sides that differ from each other and from the network's, so that none of them is taken for a constant.
    example = torch.from_numpy(np.ascontiguousarray(np.resize(batch, (2, 50, 70, 3))))
    try:
        with exporting(), _quiet():
            exported = torch.onnx.export(
                program,
                (example,),
                input_names=[INPUT],
                output_names=[OUTPUT, _LOGITS],
                opset_version=OPSET,
                dynamo=True,
                dynamic_shapes=(shape,),
                external_data=False,
                verbose=False,
            )
        assert exported is not None
        return exported.model_proto
    except BenchError:
        raise
    except Exception as error:  # torch raises errors of many types here, with the cause in the first line or the last
        raise BenchError(
            f"{name} cannot be exported: torch.onnx.export failed ({reason(_first(error))}); its predict must consist "
            f"of tensor operations that are the same for all images"
        ) from error


def _first(error: BaseException) -> BaseException:
    """Return the error that caused an error."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide what torch and onnxscript report about their own work, such as the whole graph after an error."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(action="ignore"), redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def _compare(model: Any, samples: Sequence[np.ndarray], expected: Sequence[np.ndarray], name: str) -> float:
    """Return the largest difference between the logits of a model and the expected ones; raise where it is large."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        found = [session.run([_LOGITS], {INPUT: batch})[0] for batch in samples]
    except Exception as error:  # onnxruntime raises errors of many types
        raise BenchError(
            f"{name} cannot be exported: onnxruntime cannot run the file ({reason(error)}); where predict uses the "
            f"number of images, write images.shape[0] in place of len(images), which an export fixes"
        ) from None
    difference = max(float(np.abs(one - other).max()) for one, other in zip(found, expected, strict=True))
    scale = max(1.0, *(float(np.abs(logits).max()) for logits in expected))
    if not difference <= LARGEST_DIFFERENCE * scale:
        raise BenchError(
            f"{name} cannot be exported: the logits of the file differ from those of torch by {difference:.2g}; its "
            f"predict probably depends on values that are fixed in the file"
        )
    return difference

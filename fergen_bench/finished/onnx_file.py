"""Open an ONNX file with onnxruntime, after its content was checked.

An ONNX file is data: it names operators, and onnxruntime computes them. What could do harm is refused before the file
reaches onnxruntime: weights outside its folder, operators of other libraries, and sizes that would fill the memory.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fergen_bench.error import BenchError, reason
from fergen_bench.files.bounded import checksum, read_bytes
from fergen_bench.finished.convention import LARGEST_SIDE, stated_by_metadata
from fergen_bench.finished.model import FinishedModel, InputShape
from fergen_bench.wording import listed, many

MOST_FILE = (2 << 30) - 1
"""The largest ONNX file in bytes; the format allows no more. Weights of larger models are external data."""
MOST_WEIGHTS = 8 << 30
"""The largest total size in bytes of a model's weights."""
MOST_VALUES = 1 << 30
"""The largest number of values of a tensor that a model computes from constants."""
MOST_CLASSES = 1000
DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
"""Families of operators that onnxruntime brings along."""
_INPUTS = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}
INSTALL = "install fergen-bench[onnx], or onnx and onnxruntime"


def open_onnx(path: Path, device: str, threads: int, output: str | None = None) -> FinishedModel:
    """Open an ONNX file.

    Args:
        path: The file.
        device: cpu, cuda or cuda:1.
        threads: CPU threads.
        output: The name of the output with the scores, if there are several.

    Raises:
        BenchError: The file is damaged, could do harm, or is not a classifier of images.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime
    except ImportError as error:
        raise BenchError(f"{path}: {error.name} is missing, which ONNX files need; {INSTALL}") from None
    external = check(path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.use_deterministic_compute = True
    options.log_severity_level = 4  # errors are raised, too
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=_providers(device))
    except Exception as error:  # onnxruntime raises errors of many types
        raise BenchError(f"{path}: onnxruntime cannot load this file ({reason(error)}); export it again") from None
    taken, shape = _input(path, session.get_inputs())
    given, outputs = _output(path, session.get_outputs(), output)
    metadata = session.get_modelmeta().custom_metadata_map
    stated = dict(stated_by_metadata(metadata, outputs, str(path)))
    if taken.type == "tensor(uint8)":
        stated["range"] = "uint8"
    kind = _INPUTS[taken.type]

    def run(batch: np.ndarray) -> Any:
        try:
            return np.asarray(session.run([given.name], {taken.name: batch.astype(kind, copy=False)})[0], np.float32)
        except Exception as error:
            raise BenchError(
                f"{path}: the model cannot compute a batch of the shape {batch.shape} ({reason(error)}); state the "
                f"size of its input with --size, or its layout with --layout"
            ) from None

    batch = taken.shape[0] if isinstance(taken.shape[0], int) else None
    provider = {"onnxruntime": onnxruntime.__version__, "provider": session.get_providers()[0]}
    digest = _digest(path, external)
    return FinishedModel("onnx", path.stem, str(path), digest, run, shape, outputs, batch, stated, metadata, provider)


def _providers(device: str) -> list[Any]:
    import onnxruntime

    if not device.startswith("cuda"):
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise BenchError(
            f"--device {device}: the installed onnxruntime computes on the CPU alone; install onnxruntime-gpu, or use "
            f"--device cpu"
        )
    return [("CUDAExecutionProvider", {"device_id": int(device.partition(":")[2] or 0)}), "CPUExecutionProvider"]


def _digest(path: Path, external: Iterable[Path]) -> str:
    parts = [checksum(path), *(checksum(file) for file in sorted(external))]
    return (parts[0] if len(parts) == 1 else hashlib.sha256("".join(parts).encode()).hexdigest())[:16]


def _input(path: Path, inputs: list[Any]) -> tuple[Any, InputShape]:
    """Return the input of a model, and its shape."""
    if len(inputs) != 1:
        names = listed(one.name for one in inputs)
        raise BenchError(f"{path}: the model has {len(inputs)} inputs ({names}); expected one batch of images")
    (taken,) = inputs
    if taken.type not in _INPUTS or len(taken.shape) != 4:
        raise BenchError(
            f"{path}: the input {taken.name} is {taken.type} of the shape {taken.shape}; expected images of the shape "
            f"(batch, channels, height, width) or (batch, height, width, channels), as float or uint8"
        )
    sides = [side if isinstance(side, int) and side > 0 else None for side in taken.shape]
    if any(side is not None and side > LARGEST_SIDE for side in sides):
        raise BenchError(f"{path}: the input has the shape {taken.shape}; at most {LARGEST_SIDE:,} pixels are accepted")
    first, last = sides[1] in (1, 3), sides[3] in (1, 3)
    layout: Literal["nchw", "nhwc"] | None = None
    if first != last:
        layout = "nchw" if first else "nhwc"
    elif None not in sides[1:] and not first:
        raise BenchError(f"{path}: the input has the shape {taken.shape}; expected one channel or three")
    if layout is None:
        return taken, InputShape()
    channels, height, width = (sides[1], sides[2], sides[3]) if layout == "nchw" else (sides[3], sides[1], sides[2])
    return taken, InputShape(channels, height, width, layout)


def _output(path: Path, outputs: list[Any], wanted: str | None) -> tuple[Any, int | None]:
    """Return the output with the scores, and the number of classes where the file states it."""
    names = [one.name for one in outputs]
    if wanted is not None and wanted not in names:
        raise BenchError(f"{path}: there is no output {wanted!r}; the model has {listed(names)}")
    chosen = [one for one in outputs if wanted in (None, one.name)]
    if len(chosen) > 1:
        raise BenchError(
            f"{path}: the model has {len(names)} outputs; name the one with the scores: --output {names[0]}"
        )
    (given,) = chosen
    fits = len(given.shape) in {0, 2} and given.type in {"tensor(float)", "tensor(float16)", "tensor(double)"}
    classes = given.shape[1] if len(given.shape) == 2 and isinstance(given.shape[1], int) else None
    if not fits or (classes is not None and not 2 <= classes <= MOST_CLASSES):
        raise BenchError(
            f"{path}: the output {given.name} is {given.type} of the shape {given.shape}; expected scores of the shape "
            f"(batch, classes); export the model without what follows its classifier"
        )
    return given, classes


# ------------------------------------------------------------------------------------------------------------- checking


def check(path: Path) -> list[Path]:
    """Check the content of an ONNX file before it is loaded.

    Args:
        path: The file.

    Returns:
        The files of external data, all of them inside the folder of the file.

    Raises:
        BenchError: The file is damaged or could do harm.
    """
    import onnx

    try:
        model = onnx.load_model_from_string(read_bytes(path, MOST_FILE))
    except (OSError, ValueError) as error:
        raise BenchError(f"{path}: this file cannot be read as ONNX ({reason(error)}); export it again") from None
    except Exception as error:  # DecodeError of protobuf
        raise BenchError(f"{path}: this is not an ONNX file ({reason(error)}); export it again") from None
    if not model.graph.node:
        raise BenchError(f"{path}: this ONNX file has no operator; export it again")
    own = {function.domain for function in model.functions}
    nodes = [*_nodes(model.graph), *(node for function in model.functions for node in _nodes(function))]
    foreign = {f"{node.domain}.{node.op_type}" for node in nodes if node.domain not in DOMAINS | own}
    if foreign:
        raise BenchError(
            f"{path}: the model has custom operators ({listed(sorted(foreign), 3)}), which need a program of their "
            f"author; export it with standard operators"
        )
    tensors = [*_weights(model.graph), *(tensor for node in nodes for tensor in _tensors(node))]
    external = _external(path, tensors)
    _check_sizes(path, tensors)
    _check_computed(path, model, nodes)
    return external


def _nodes(graph: Any) -> Iterator[Any]:
    """Yield the nodes of a graph or function, and of the graphs inside them."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _nodes(inner)


def _weights(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _weights(inner)


def _tensors(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        yield from (*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors)


def _external(path: Path, tensors: Iterable[Any]) -> list[Path]:
    """Return the files of external data; raise for one outside the folder of the model."""
    found: dict[Path, None] = {}
    for tensor in tensors:
        if tensor.data_location != tensor.EXTERNAL and not tensor.external_data:
            continue
        location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        file = path.parent / location
        inside = location and not Path(location).is_absolute() and ".." not in Path(location).parts
        if not inside or file.is_symlink() or not file.resolve().is_relative_to(path.parent.resolve()):
            raise BenchError(
                f"{path}: the weights {tensor.name[:60]!r} are in {location[:100]!r}, outside the folder of the model; "
                f"save the model in one file, or its weights beside it"
            )
        if not file.is_file():
            raise BenchError(f"{path}: the file of its weights, {file.name}, is missing; put it beside the model")
        found[file] = None
    return list(found)


def _check_sizes(path: Path, tensors: Iterable[Any]) -> None:
    """Raise for a tensor whose declared size is not that of its data, or for more weights than a model may have."""
    from onnx import helper

    total = 0
    for tensor in tensors:
        try:
            each = helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        except (KeyError, TypeError, ValueError):
            each = 1
        values = math.prod(tensor.dims)
        total += values * each
        negative = any(side < 0 for side in tensor.dims)
        external = tensor.data_location == tensor.EXTERNAL
        packed = tensor.raw_data and not external
        if negative or total > MOST_WEIGHTS or (packed and len(tensor.raw_data) > values * each):
            raise _size_fault(path, tensor.name, values * each)
        stored = len(tensor.raw_data) if packed else _listed_bytes(tensor)
        if not external and stored * 8 < values:  # types of four bits and less are packed
            raise _size_fault(path, tensor.name, values * each)


def _listed_bytes(tensor: Any) -> int:
    """Return the number of bytes that the values of a tensor take which are stored one by one."""
    lists = (tensor.float_data, tensor.int32_data, tensor.int64_data, tensor.double_data, tensor.uint64_data)
    return 8 * max(len(tensor.string_data), *map(len, lists))


def _size_fault(path: Path, name: str, size: int) -> BenchError:
    return BenchError(
        f"{path}: the weights {name[:60]!r} declare {many(size, 'byte')}, which the file does not contain or a model "
        f"may not have (at most {MOST_WEIGHTS:,}); export it again"
    )


_GROWING = frozenset({"ConstantOfShape", "Expand", "Tile", "Range", "Pad", "Resize", "Upsample", "EyeLike", "OneHot"})
_RANDOM = frozenset({"RandomNormal", "RandomUniform"})


def _check_computed(path: Path, model: Any, nodes: Iterable[Any]) -> None:
    """Raise where operators that can enlarge a tensor have a result that would fill the memory."""
    import onnx

    kinds = {node.op_type for node in nodes}
    if not kinds & (_GROWING | _RANDOM):
        return
    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception:  # onnxruntime will name what is wrong with the graph
        return
    for value in (*inferred.graph.value_info, *inferred.graph.output):
        sides = [side.dim_value for side in value.type.tensor_type.shape.dim if side.HasField("dim_value")]
        if math.prod(sides) > MOST_VALUES:
            raise BenchError(f"{path}: the model computes {math.prod(sides):,} values at once ({value.name[:60]!r})")

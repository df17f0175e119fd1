"""A small network for tests, trained on faces of synth5-tiny, and ONNX files of it under any convention."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional

from fergen_bench.data.domain import Domain
from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.finished.convention import UNUSED, Convention

SIDE = 32
OPSET, IR = 17, 8


def trained(domain: Domain, epochs: int = 40) -> dict[str, np.ndarray]:
    """Return the weights of a network of two convolutions, fitted to the training faces of a domain as RGB in 0..1."""
    torch.manual_seed(0)
    split = domain.split("train")
    convention = Convention(size=(SIDE, SIDE))
    images = torch.from_numpy(convention.prepare(split.faces().permute(0, 2, 3, 1).numpy()))
    labels = torch.from_numpy(split.labels)
    body = nn.Sequential(
        nn.Conv2d(3, 16, 5, 2, 2), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(2048, 7)
    )
    optimiser = torch.optim.Adam(body.parameters(), 2e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(labels)).split(50):
            loss = functional.cross_entropy(body(images[rows]), labels[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return {name: value.detach().numpy() for name, value in body.state_dict().items()}


def write_model(
    path: Path,
    weights: dict[str, np.ndarray],
    convention: Convention,
    *,
    metadata: dict[str, str] | None = None,
    free_axes: bool = False,
) -> Path:
    """Write an ONNX file of the network that expects images of a convention.

    Args:
        path: The file.
        weights: From `trained`.
        convention: Colours, range, mean, deviation, layout and classes. Size and filter are those of the network.
        metadata: Metadata of the file.
        free_axes: The file does not state the shape of the input.
    """
    nodes, constants = [], dict(weights)

    def add(kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def constant(name: str, value: Any, kind: Any = np.float32) -> str:
        constants[name] = np.asarray(value, kind)
        return name

    last = "images"
    if convention.layout == "nhwc":
        last = add("Transpose", [last], "channels_first", perm=[0, 3, 1, 2])
    if convention.range == "uint8":
        last = add("Cast", [last], "cast", to=TensorProto.FLOAT)
    if convention.range != "uint8":
        shape = (1, -1, 1, 1)
        last = add("Mul", [last, constant("deviation", np.reshape(convention.deviation, shape))], "multiplied")
        last = add("Add", [last, constant("mean", np.reshape(convention.mean, shape))], "added")
    if convention.range in {"0-255", "uint8"}:
        last = add("Div", [last, constant("white", 255.0)], "divided")
    if convention.colour == "bgr":
        last = add("Gather", [last, constant("order", [2, 1, 0], np.int64)], "rgb", axis=1)
    if convention.channels == 1:
        last = add("Concat", [last, last, last], "three", axis=1)
    last = add("Conv", [last, "0.weight", "0.bias"], "a", strides=[2, 2], pads=[2, 2, 2, 2])
    last = add("Relu", [last], "b")
    last = add("Conv", [last, "2.weight", "2.bias"], "c", strides=[2, 2], pads=[1, 1, 1, 1])
    last = add("Flatten", [add("Relu", [last], "d")], "e")
    columns = [EXPRESSIONS.index(name) if name in EXPRESSIONS else -1 for name in convention.classes]
    rows = [weights["5.weight"][c] if c >= 0 else np.zeros(2048) for c in columns]
    biases = [weights["5.bias"][c] if c >= 0 else -20.0 for c in columns]
    last = add("Gemm", [last, constant("w", rows), constant("v", biases)], "scores", transB=1)
    if convention.output == "probabilities":
        add("Softmax", [last], "scores_out", axis=1)
    else:
        add("Identity", [last], "scores_out")
    sides = [SIDE, SIDE]
    shape = [convention.channels, *sides] if convention.layout == "nchw" else [*sides, convention.channels]
    named: list[Any] = ["n", *(("a", "b", "c") if free_axes else shape)]
    kind = TensorProto.UINT8 if convention.range == "uint8" else TensorProto.FLOAT
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("images", kind, named)],
        [helper.make_tensor_value_info("scores_out", TensorProto.FLOAT, ["n", len(columns)])],
        [numpy_helper.from_array(value, name) for name, value in constants.items() if name in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    for key, value in (metadata or {}).items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, str(path))
    return path


CONTEMPT = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
COUNTED_FROM_1 = (UNUSED, *EXPRESSIONS)


@pytest.fixture(scope="session")
def weights(web: Domain) -> dict[str, np.ndarray]:
    """Return the weights of a small network that was trained on faces of web."""
    return trained(web)


@pytest.fixture(scope="session")
def small(weights: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an ONNX file of that network: RGB in 0..1, channels first, classes in the order of EXPRESSIONS."""
    return write_model(tmp_path_factory.mktemp("small") / "small.onnx", weights, Convention(size=(SIDE, SIDE)))

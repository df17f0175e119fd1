"""Checkpoints: a fitted method in one safetensors file, which contains numbers and names, and no code.

A checkpoint contains the trained modules of a GradientMethod, and the tensors, numbers and texts among the attributes
of any method, except attributes with a leading underscore. Of a frozen network it contains the name and the digest; the
network is loaded again by name, and must have the same weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, get_args

from torch import Tensor, nn

from fergen_bench.error import BenchError, reason
from fergen_bench.files.atomic import atomically
from fergen_bench.files.bounded import parse_json
from fergen_bench.networks.name import parse_network
from fergen_bench.networks.network import Network, Statistics
from fergen_bench.training.attributes import Attributes
from fergen_bench.training.contract import Context, Method
from fergen_bench.training.loop import GradientMethod

MODEL = "model."
ATTRIBUTE = "attribute."


def save_method(method: Method, path: Path) -> None:
    """Write the checkpoint of a fitted method, atomically.

    Args:
        method: The method, after `fit`.
        path: The file; its folder is created.

    Raises:
        BenchError: The method is not a GradientMethod and has a module among its attributes.
    """
    from safetensors.torch import save

    attributes = Attributes.of(method)
    modules = [name for name in attributes.others if isinstance(getattr(method, name), nn.Module)]
    if not isinstance(method, GradientMethod):
        modules += ["model"] if isinstance(getattr(method, "model", None), nn.Module) else []
        if modules:
            raise BenchError(
                f"{type(method).__name__}.{modules[0]} is a module, and a checkpoint contains only the modules of a "
                f"GradientMethod; derive the class from GradientMethod, or store tensors"
            )
    networks = {
        name: {"name": value.name, "statistics": value.statistics, "digest": value.digest}
        for name, value in vars(method).items()
        if isinstance(value, Network) and value.frozen
    }
    tensors = {ATTRIBUTE + name: value for name, value in attributes.tensors.items()}
    if isinstance(method, GradientMethod):
        tensors |= {MODEL + name: value for name, value in method.model.state_dict().items()}
    header = {"class": type(method).__name__, "version": method.version, "parameters": asdict(method)}
    about = json.dumps({**header, "values": attributes.values, "networks": networks})
    apart = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    content = save(apart, {"fergen-bench": about})
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomically(path) as draft:
        draft.write_bytes(content)


def restore_method(path: Path, method: Method, ctx: Context) -> None:
    """Restore a fitted method from its checkpoint, so that it predicts as it did when it was saved.

    Args:
        path: The checkpoint.
        method: A new method with the same parameters.
        ctx: The context that networks are loaded with.

    Raises:
        BenchError: The file is damaged, or belongs to another method, version or parameters, or a frozen network has
            other weights.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt", device="cpu") as file:
            header = parse_json((file.metadata() or {})["fergen-bench"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        _check(header, tensors, method)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise BenchError(f"{path}: this checkpoint cannot be read ({error}); delete it and run again") from None
    stored = header.get("parameters")
    stored = dict(stored) if isinstance(stored, dict) else {}
    # Fields that the class got after the checkpoint was saved have their defaults.
    stored |= {field.name: field.default for field in fields(method) if field.name not in stored}
    expected = [type(method).__name__, method.version, asdict(method)]
    if [header.get("class"), header.get("version"), stored] != json.loads(json.dumps(expected)):
        raise BenchError(f"{path}: this checkpoint belongs to another method, version or parameters; run again")
    state = {name.removeprefix(MODEL): value for name, value in tensors.items() if name.startswith(MODEL)}
    own = {name.removeprefix(ATTRIBUTE): value for name, value in tensors.items() if name.startswith(ATTRIBUTE)}
    attributes = Attributes(own, header["values"])
    attributes.attach(method, ctx.device)
    if isinstance(method, GradientMethod):
        method.build_model(ctx)
        try:
            method.model.load_state_dict(state)
        except RuntimeError as error:
            raise BenchError(f"{path}: this checkpoint does not fit: {reason(error, 'last')}; run again") from None
        method.model.eval()
        attributes.attach(method, ctx.device)  # `build` may have reset some of them
    for name, network in header["networks"].items():
        loaded = ctx.backbone(network["name"], statistics=network["statistics"])
        if loaded.digest != network["digest"]:
            raise BenchError(f"{path}: {network['name']} differs in its weights from this checkpoint; run again")
        setattr(method, name, loaded)


def _check(header: dict[str, Any], tensors: Mapping[str, Tensor], method: Method) -> None:
    """Check that a checkpoint sets only attributes that `save_method` writes.

    A file could otherwise replace a member of the class or a private attribute, or load a file of weights that the
    parameters of the method do not name.

    Raises:
        ValueError: A name, an index in a tuple, a value or a network is invalid.
    """
    own = [name.removeprefix(ATTRIBUTE).partition(".") for name in tensors if name.startswith(ATTRIBUTE)]
    for name, dot, index in own:
        if dot and not (index.isascii() and index.isdecimal() and len(index) < 10):
            raise ValueError(f"{f'{name}.{index}'[:60]!r} does not end in an index of a tuple")
    names = {name for name, _, _ in own}
    for name in (*names, *header["values"], *header["networks"]):
        if not name.isidentifier() or name.startswith("_") or callable(getattr(type(method), name, None)):
            raise ValueError(f"{name[:60]!r} cannot be an attribute of a checkpoint")
    if not all(isinstance(value, int | float | str | None) for value in header["values"].values()):
        raise ValueError("a value is neither a number nor text")
    allowed = {str(value) for value in asdict(method).values()}
    for network in header["networks"].values():
        from_file = parse_network(network["name"], "networks", check=False).path is not None
        if (from_file and network["name"] not in allowed) or network["statistics"] not in get_args(Statistics):
            raise ValueError(f"the parameters of the method do not name the weights {network['name'][:60]!r}")

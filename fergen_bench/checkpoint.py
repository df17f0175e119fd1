"""A fitted method on the disk: numbers and names in one safetensors file, and no code.

What is kept is what `fit` left behind: the trained modules of a GradientMethod, and the tensors, numbers and names of
frozen networks among the attributes of any method, but for those that begin with an underscore. Frozen networks are not
copied; they are loaded by name again, and must have the weights they had.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fergen_bench.backbone import Network
from fergen_bench.error import BenchError
from fergen_bench.method import Context, GradientMethod, Method

MODEL = "model."
ATTRIBUTE = "attribute."


def save_method(method: Method, path: Path) -> None:
    """Writes a fitted method, whole, at once."""
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {}
    networks: dict[str, dict[str, str]] = {}
    parameters = {field.name for field in fields(method)}
    for name, value in vars(method).items():
        if name in parameters or name.startswith("_"):
            continue
        if isinstance(value, Network) and value.frozen:
            networks[name] = {"name": value.name, "statistics": value.statistics, "digest": value.digest}
        elif isinstance(value, Tensor):
            tensors[ATTRIBUTE + name] = value
        elif isinstance(value, tuple) and value and all(isinstance(part, Tensor) for part in value):
            tensors |= {f"{ATTRIBUTE}{name}.{place}": part for place, part in enumerate(value)}
        elif isinstance(value, int | float | str | None):
            values[name] = value
        elif isinstance(value, nn.Module) and not isinstance(method, GradientMethod):
            raise BenchError(
                f"{type(method).__name__} keeps the module {name!r}, and only a GradientMethod's can be kept; derive "
                f"it from GradientMethod, or keep tensors"
            )
    if isinstance(method, GradientMethod):
        tensors |= {MODEL + name: value for name, value in method.model.state_dict().items()}
    header = {"class": type(method).__name__, "version": method.version, "parameters": asdict(method)}
    about = json.dumps({**header, "values": values, "networks": networks})
    apart = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    content = save(apart, {"fergen-bench": about})
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(draft, 0o644)
        os.replace(draft, path)
    finally:
        Path(draft).unlink(missing_ok=True)


def restore_method(path: Path, method: Method, ctx: Context) -> None:
    """Gives a new method what was kept of a fitted one with the same parameters; then it predicts as that one did.

    A file that is damaged, or of another method, version or parameters, is refused.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt", device="cpu") as file:
            header = json.loads((file.metadata() or {})["fergen-bench"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise BenchError(f"{path}: this kept model cannot be read ({error}); delete it and run again") from None
    asked = json.loads(json.dumps([type(method).__name__, method.version, asdict(method)]))
    if [header.get("class"), header.get("version"), header.get("parameters")] != asked:
        raise BenchError(f"{path}: this model was kept of another method, version or parameters; run again")
    kept = {name.removeprefix(ATTRIBUTE): value.to(ctx.device) for name, value in tensors.items()}
    state = {name.removeprefix(MODEL): value for name, value in tensors.items() if name.startswith(MODEL)}
    attributes = {name: value for name, value in kept.items() if not name.startswith(MODEL)}
    _attach(method, header, attributes)
    if isinstance(method, GradientMethod):
        method.model = method.build(ctx).to(ctx.device).to(memory_format=torch.channels_last)
        try:
            method.model.load_state_dict(state)
        except RuntimeError as error:
            raise BenchError(f"{path}: this model does not fit: {str(error).splitlines()[-1].strip()}") from None
        method.model.eval()
        _attach(method, header, attributes)  # building may have set some of them to what they were before training
    for name, network in header["networks"].items():
        loaded = ctx.backbone(network["name"], statistics=network["statistics"])
        if loaded.digest != network["digest"]:
            raise BenchError(f"{path}: {network['name']} has other weights than when this model was kept; run again")
        setattr(method, name, loaded)


def _attach(method: Method, header: dict[str, Any], attributes: dict[str, Tensor]) -> None:
    groups: dict[str, list[Tensor]] = {}
    for name, value in attributes.items():
        base, dot, _ = name.partition(".")
        if dot:
            groups.setdefault(base, []).append(value)
        else:
            setattr(method, name, value)
    for name, parts in groups.items():
        setattr(method, name, tuple(parts))
    for name, value in header["values"].items():
        setattr(method, name, value)

"""A fitted method on the disk: numbers and names in one safetensors file, and no code.

What is kept is what `fit` left behind: the trained modules of a GradientMethod, and the tensors, numbers and names of
frozen networks among the attributes of any method, but for those that begin with an underscore. Frozen networks are not
copied; they are loaded by name again, and must have the weights they had.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
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
    """Writes a fitted method, whole, at once."""
    from safetensors.torch import save

    attributes = Attributes.of(method)
    modules = [name for name in attributes.others if isinstance(getattr(method, name), nn.Module)]
    if not isinstance(method, GradientMethod):
        modules += ["model"] if isinstance(getattr(method, "model", None), nn.Module) else []
        if modules:
            raise BenchError(
                f"{type(method).__name__} keeps the module {modules[0]!r}, and only a GradientMethod's can be kept; "
                f"derive it from GradientMethod, or keep tensors"
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
    """Gives a new method what was kept of a fitted one with the same parameters; then it predicts as that one did.

    A file that is damaged, or of another method, version or parameters, is refused.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt", device="cpu") as file:
            header = parse_json((file.metadata() or {})["fergen-bench"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        _check(header, tensors, method)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise BenchError(f"{path}: this kept model cannot be read ({error}); delete it and run again") from None
    asked = json.loads(json.dumps([type(method).__name__, method.version, asdict(method)]))
    if [header.get("class"), header.get("version"), header.get("parameters")] != asked:
        raise BenchError(f"{path}: this model was kept of another method, version or parameters; run again")
    state = {name.removeprefix(MODEL): value for name, value in tensors.items() if name.startswith(MODEL)}
    own = {name.removeprefix(ATTRIBUTE): value for name, value in tensors.items() if name.startswith(ATTRIBUTE)}
    attributes = Attributes(own, header["values"])
    attributes.attach(method, ctx.device)
    if isinstance(method, GradientMethod):
        method.build_model(ctx)
        try:
            method.model.load_state_dict(state)
        except RuntimeError as error:
            raise BenchError(f"{path}: this model does not fit: {reason(error, 'last')}") from None
        method.model.eval()
        attributes.attach(method, ctx.device)  # building may have set some of them to what they were before training
    for name, network in header["networks"].items():
        loaded = ctx.backbone(network["name"], statistics=network["statistics"])
        if loaded.digest != network["digest"]:
            raise BenchError(f"{path}: {network['name']} has other weights than when this model was kept; run again")
        setattr(method, name, loaded)


def _check(header: dict[str, Any], tensors: Mapping[str, Tensor], method: Method) -> None:
    """Refuses a file that would put something else onto a method than what methods keep there: a name that the class
    uses itself or that is hidden, a place in a tuple that is no number, a value that is neither number nor text, a file
    of weights that no parameter names.
    """
    own = [name.removeprefix(ATTRIBUTE).partition(".") for name in tensors if name.startswith(ATTRIBUTE)]
    for name, dot, place in own:
        if dot and not (place.isascii() and place.isdecimal() and len(place) < 10):
            raise ValueError(f"{f'{name}.{place}'[:60]!r} is no place in a tuple")
    kept = {name for name, _, _ in own}
    for name in (*kept, *header["values"], *header["networks"]):
        if not name.isidentifier() or name.startswith("_") or callable(getattr(type(method), name, None)):
            raise ValueError(f"{name[:60]!r} is nothing that a method keeps")
    if not all(isinstance(value, int | float | str | None) for value in header["values"].values()):
        raise ValueError("a value is neither a number nor text")
    meant = {str(value) for value in asdict(method).values()}
    for network in header["networks"].values():
        from_file = parse_network(network["name"], "networks", check=False).path is not None
        if (from_file and network["name"] not in meant) or network["statistics"] not in get_args(Statistics):
            raise ValueError(f"it names the weights {network['name'][:60]!r}, which no parameter does")

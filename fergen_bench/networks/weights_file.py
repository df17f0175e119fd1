"""Read files of weights without executing code, and match them to a network below wrappers and prefixes."""

from __future__ import annotations

import codecs
import pickle
import re
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fergen_bench.error import BenchError, reason

SETS = ("", "state_dict", "model", "model_state_dict", "net", "network", "teacher", "student", "ema")
"""Usual keys of weights in a checkpoint; of several sets that fit equally, the first is used."""
CLASSIFIERS = ("fc.", "head.", "classifier.", "last_linear.")
_WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"})
"""Parts that data parallelism and compilation insert into the names of weights."""
_COMPUTED = ("num_batches_tracked", "relative_position_index", "attn_mask", "position_ids")
"""Suffixes of tensors that a network computes itself or does not use."""
_DEEPEST = 4
_SHOWN = 5

WeightSets = Mapping[str, Mapping[str, Tensor]]
"""Weights by name, by their key in the file, such as "state_dict" or "model.ema"; "" is the top."""


@dataclass(frozen=True)
class Fit:
    """The part of a file that fits a network best."""

    weights: Mapping[str, Tensor]  # under the names of the network
    left: Mapping[str, Tensor]  # the other weights of the set, without the prefix
    notes: tuple[str, ...] = ()

    @property
    def classes(self) -> int | None:
        """Number of classes of the classifier in the file; None without a classifier."""
        return len(self.left["fc.weight"]) if "fc.weight" in self.left else None


def find_fit(sets: WeightSets, network: nn.Module) -> Fit:
    """Return the weights of a file that fit a network best.

    Args:
        sets: The sets of weights in the file.
        network: The network.

    Returns:
        The set and prefix under which most names and shapes agree with the network.
    """
    own = _own(network)
    wrappers = _WRAPPERS - {part for name in own for part in name.split(".")}
    candidates = []
    for place, weights in sorted(sets.items(), key=lambda entry: _preference(entry[0])):
        bare: dict[str, Tensor] = {}
        for name, value in weights.items():
            bare.setdefault(".".join(part for part in name.split(".") if part not in wrappers), value)
        candidates += [(score, place, prefix, bare) for prefix, score in _prefixes(bare, own).items()]
    if not candidates:
        first = next(iter(sets.values()), {})
        return Fit({}, dict(first))
    best = max(score for score, *_ in candidates)
    equal = [(place, prefix, bare) for score, place, prefix, bare in candidates if score == best]
    place, prefix, bare = equal[0]
    weights = _below(bare, prefix, own)
    others = [
        _title(other, front) for other, front, names in equal[1:] if not _equal(_below(names, front, own), weights)
    ]
    notes: tuple[str, ...] = ()
    if others:
        used = _title(place, prefix)
        notes = (
            f"its file has several sets of weights that fit alike, {_listed([used, *others])}; {used} is used: "
            f"to use another, save that set alone",
        )
    left = {
        name.removeprefix(f"{prefix}.") if prefix else name: value
        for name, value in bare.items()
        if (name.removeprefix(f"{prefix}.") if prefix else name) not in weights
    }
    return Fit(weights, left, notes)


def load_weights(
    network: nn.Module, path: Path, name: str, advice: str, renamed: Callable[[str], str] = str
) -> tuple[str, ...]:
    """Load the weights of a file into a network, below wrappers and prefixes.

    Args:
        network: The network. The file must contain each of its weights in the same shape.
        path: The file.
        name: Name of the network, for errors.
        advice: The next step for a user whose file does not fit, for errors.
        renamed: Returns the network's name of a weight in the file.

    Returns:
        Notes for the user.

    Raises:
        BenchError: The file cannot be read, or does not fit.
    """
    sets = {
        place: {renamed(key): value for key, value in weights.items()} for place, weights in read_weights(path).items()
    }
    return fill(network, find_fit(sets, network), path, name, advice)


def fill(
    network: nn.Module, fit: Fit, path: Path, name: str, advice: str = "name the network that it was made for"
) -> tuple[str, ...]:
    """Load weights into a network.

    Args:
        network: The network. The file must contain each of its weights in the same shape.
        fit: The weights of the file.
        path: The file, for errors.
        name: Name of the network, for errors.
        advice: The next step for a user whose file does not fit, for errors.

    Returns:
        Notes for the user, such as the names of omitted layers outside the network (classifiers).

    Raises:
        BenchError: Weights are missing, unknown, or of another shape.
    """
    own = _own(network)
    inside = {key.partition(".")[0] for key in own}
    left = [key for key in fit.left if not key.endswith(_COMPUTED)]
    unknown = [key for key in left if key.partition(".")[0] in inside and not key.startswith(CLASSIFIERS)]
    missing = [key for key in own if key not in fit.weights]
    other = [
        f"{key} {tuple(value.shape)} instead of {tuple(own[key].shape)}"
        for key, value in fit.weights.items()
        if value.shape != own[key].shape
    ]
    unknown = left if missing and not fit.weights else unknown
    faults = (("lacks", missing), ("adds", left if missing else unknown), ("has in another shape", other))
    if missing or unknown or other:
        parts = "; ".join(f"it {what} {_listed(keys)}" for what, keys in faults if keys)
        raise BenchError(f"{path} does not fit {name}: {parts}; {advice}")
    network.load_state_dict(
        {key: value.float() if value.is_floating_point() else value for key, value in fit.weights.items()}, strict=False
    )
    return (*fit.notes, *((f"left out of its file: {_listed(left)}",) if left else ()))


def _own(network: nn.Module) -> dict[str, Tensor]:
    return {key: value for key, value in network.state_dict().items() if not key.endswith(_COMPUTED)}


def _prefixes(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, tuple[int, int]]:
    """Return for each prefix, short ones first, the number of equal names with equal shapes, and of equal names."""
    names: Counter[str] = Counter()
    shapes: Counter[str] = Counter()
    for name, value in weights.items():
        parts = name.split(".")
        for start in range(len(parts)):
            if (rest := ".".join(parts[start:])) in own:
                prefix = ".".join(parts[:start])
                names[prefix] += 1
                shapes[prefix] += own[rest].shape == value.shape
    return {prefix: (shapes[prefix], names[prefix]) for prefix in sorted(names, key=lambda name: name.count("."))}


def _below(weights: Mapping[str, Tensor], prefix: str, own: Iterable[str]) -> dict[str, Tensor]:
    front = f"{prefix}." if prefix else ""
    return {key: weights[front + key] for key in own if front + key in weights}


def _equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def _preference(place: str) -> int:
    return SETS.index(place) if place in SETS else len(SETS)


def _title(place: str, prefix: str) -> str:
    """Return the description of a set of weights: "model", "model: encoder." or "the top of the file"."""
    parts = [part for part in (place, f"{prefix}." if prefix else "") if part]
    return ": ".join(parts) or "the top of the file"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


# -------------------------------------------------------------------------------------------------------------- reading


def read_weights(path: Path) -> dict[str, dict[str, Tensor]]:
    """Return the sets of weights in a file.

    Args:
        path: A .safetensors file, a torch file, or a pickled dictionary of numpy arrays (.pkl).

    Raises:
        BenchError: The file contains no weights, or cannot be read without executing code.
    """
    try:
        content = _read(path)
    except Exception as error:
        raise BenchError(_refusal(path, error)) from None
    if not isinstance(content, Mapping):
        raise BenchError(
            f"{path} contains a {type(content).__name__}, not weights by name; save a state_dict of the network"
        )
    if not (sets := dict(_sets(content))):
        raise BenchError(f"{path} does not contain weights by name; save a state_dict of the network")
    return sets


def _read(path: Path) -> Any:
    _refuse_other_files(path)
    if _is_safetensors(path):
        from safetensors.torch import load_file

        return load_file(path)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > 2 * path.stat().st_size:
                raise ValueError("it unpacks to more than twice its size, unlike a file of weights")
    content = _read_arrays(path) if path.suffix == ".pkl" else None
    if content is not None:
        return content
    with torch.serialization.safe_globals(_NUMPY):
        return torch.load(path, map_location="cpu", weights_only=True)


def _is_safetensors(path: Path) -> bool:
    """Return True for a safetensors file; the content counts too, because files in a download cache lack a suffix."""
    with path.open("rb") as file:
        return path.suffix == ".safetensors" or file.read(9)[8:] == b"{"


def _refuse_other_files(path: Path) -> None:
    with path.open("rb") as file:
        begin = file.read(200).lstrip()
    if begin.startswith(b"version https://git-lfs"):
        raise ValueError("it is a pointer of Git LFS; fetch the file itself with git lfs pull")
    if begin[:14].lower().startswith((b"<!doctype html", b"<html")):
        raise ValueError("it is a web page; download the file itself again")


def _sets(content: Mapping[Any, Any], place: str = "", depth: int = 0) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield the dictionaries of tensors in a checkpoint at any depth, except the state of an optimiser."""
    if weights := {str(key): value for key, value in content.items() if isinstance(value, Tensor)}:
        yield place, weights
    for key, value in content.items() if depth < _DEEPEST else ():
        if isinstance(value, Mapping) and "optim" not in str(key).lower():
            yield from _sets(value, f"{place}.{key}" if place else str(key), depth + 1)


def _refusal(path: Path, error: Exception) -> str:
    """Return one sentence on a file that cannot be read, with the cause from torch's message."""
    begin = f"{path} does not contain weights that can be loaded safely"
    found = re.search(r"(?:GLOBAL|[Gg]lobal:?|class) ([A-Za-z_][\w]*(?:\.\w+)+)", str(error))
    if found is None:
        unpickling = re.search(r"WeightsUnpickler error:\s*(.+)", str(error))
        why = "it is damaged, or torch did not write it" if unpickling else reason(error)
        return f"{begin}: {why}"
    kind = found[1]
    whole = kind.startswith(("torch.nn.", "torchvision.models", "timm.models"))
    weights = "old.state_dict()" if whole else 'old.get("state_dict") or old.get("model") or old'
    new = path.with_name(f"{path.name.partition('.')[0]}-weights.pth")
    return (
        f"{begin}: it contains an object of a program ({kind}), and code of a file is not executed; if you trust it, "
        f"convert it with these two lines of Python and name the new file: old = torch.load({str(path)!r}, "
        f'"cpu", weights_only=False); '
        f"torch.save({{k: v for k, v in ({weights}).items() if torch.is_tensor(v)}}, {str(new)!r})"
    )


def _numpy_kinds() -> list[Any]:
    """Return the types of pickled numpy numbers and arrays, under the names of old and new versions of numpy."""
    from numpy._core import multiarray

    kinds: list[Any] = [np.ndarray, np.dtype]
    for home in ("numpy.core.multiarray", "numpy._core.multiarray"):
        kinds += [(multiarray.scalar, f"{home}.scalar"), (multiarray._reconstruct, f"{home}._reconstruct")]
    letters = "?bBhHiIlLqQefd"
    return kinds + list(dict.fromkeys(type(np.dtype(letter)) for letter in letters))


_NUMPY = _numpy_kinds()


def _read_arrays(path: Path) -> dict[str, Tensor] | None:
    """Read a pickled dictionary of numpy arrays, the format of the VGGFace2 weights; return None for a torch file.

    Only arrays are unpickled, so no code of the file is executed.
    """
    with path.open("rb") as file:
        if zipfile.is_zipfile(file):
            return None
        file.seek(0)
        content = _ArraysOnly(file, encoding="latin1").load()
    if content == torch.serialization.MAGIC_NUMBER:  # a file of torch before 1.6
        return None
    if not isinstance(content, dict) or not all(isinstance(value, np.ndarray) for value in content.values()):
        raise ValueError("it is not a dictionary of arrays")
    return {str(key): torch.from_numpy(np.array(value)) for key, value in content.items()}


class _ArraysOnly(pickle.Unpickler):
    """Unpickle numpy arrays, and raise for every other object."""

    def find_class(self, module: str, name: str) -> Any:
        from numpy._core import multiarray  # the module that pickles of every numpy version refer to

        known = {
            "_reconstruct": multiarray._reconstruct,
            "scalar": multiarray.scalar,
            "ndarray": np.ndarray,
            "dtype": np.dtype,
            "encode": codecs.encode,
            "OrderedDict": OrderedDict,
        }
        if module.partition(".")[0] in {"numpy", "_codecs", "collections"} and name in known:
            return known[name]
        raise pickle.UnpicklingError(f"Unsupported global: GLOBAL {module}.{name}")

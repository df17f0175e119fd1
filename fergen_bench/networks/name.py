"""Parse the names of networks and of their weights, without loading a network.

    synth                                     the packaged face encoder
    synth-trunk                               the packaged trunk
    open_clip:ViT-B-32-quickgelu/openai       an open_clip model and the tag of its weights
    timm:resnet18.tv_in1k                     a timm model with its own weights
    vggface2-resnet50//home/me/weights.pkl    the Caffe-style ResNet-50 of the VGGFace2 weights, from their file
    …//home/me/weights.safetensors            any of them with weights from a file
    …/./weights.safetensors                   the same, with a path relative to the working directory
    …/scratch                                 any of them with random weights

In the parameters of a method, `suite` is the network that the suite names, `trunk` the suite's trunk, and `scratch`
its trunk with random weights.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from fergen_bench.data.suite import Suite
from fergen_bench.error import BenchError, did_you_mean
from fergen_bench.files.bounded import is_path
from fergen_bench.synth import WEIGHTS

PACKAGED = {"synth": WEIGHTS / "encoder.safetensors", "synth-trunk": WEIGHTS / "trunk.safetensors"}
PACKAGED_SIZE = 64
"""Pixels per side of the images that the packaged networks see."""
FAMILIES = ("open_clip", "timm")
CAFFE = "vggface2-resnet50"
SCRATCH = "scratch"


@dataclass(frozen=True)
class NetworkName:
    """The parts of a network's name."""

    family: str  # synth, synth-trunk, vggface2-resnet50, open_clip or timm
    model: str  # the family's own name of the model; empty where the family is one network
    tag: str | None = None  # which published weights
    path: Path | None = None  # weights from a file
    scratch: bool = False

    @property
    def without_path(self) -> str:
        """The name without the path of a file of weights, which differs between machines."""
        return str(replace(self, path=None))

    def __str__(self) -> str:
        """Return the name, from which `parse_network` returns these parts."""
        base = f"{self.family}:{self.model}" if self.model else self.family
        if self.scratch:
            return f"{base}/{SCRATCH}"
        if self.path is not None:
            return f"{base}/{self.path}"
        return f"{base}/{self.tag}" if self.tag else base


def parse_network(name: str, place: str, check: bool = True) -> NetworkName:
    """Return the parts of a network's name.

    Args:
        name: The name.
        place: The option, key or file that contains the name, for errors.
        check: Raise if a file of weights does not exist.

    Raises:
        BenchError: The name is invalid.
    """
    base, _, weights = name.partition("/")
    family, _, model = base.partition(":")
    known = family in FAMILIES if model else family in (*PACKAGED, CAFFE)
    if not known:
        raise BenchError(
            f"{place}: no network {name!r}{did_you_mean(family, [*PACKAGED, *FAMILIES, CAFFE])} Write synth, "
            f"open_clip:MODEL/TAG, timm:MODEL, or one of them "
            f"followed by //path/to/weights"
        )
    if weights == SCRATCH:
        return NetworkName(family, model, scratch=True)
    if weights and (
        weights.startswith(("/", ".", "~"))
        or "/" in weights
        or Path(weights).suffix in {".safetensors", ".pt", ".pth", ".bin", ".pkl"}
    ):
        path = Path(weights).expanduser()
        if check and not path.is_file():
            below = weights.lstrip("/")  # what a reader of // as one separator meant
            fix = f"write {base}/./{below}" if Path(below).is_file() else f"correct the path in {name!r}"
            raise BenchError(f"{place}: {path.resolve()} does not exist; {fix}")
        return NetworkName(family, model, path=path.resolve())
    if weights and family != "open_clip":
        raise BenchError(
            f"{place}: {weights!r} in {name!r} is not a file; append //path/to/weights or /{SCRATCH} to {family}"
        )
    if family == "open_clip" and not weights:
        raise BenchError(
            f"{place}: {name!r} lacks weights; write open_clip:{model}/TAG, …//path/to/weights or …/{SCRATCH}"
        )
    if family == CAFFE:
        raise BenchError(
            f"{place}: the weights of {CAFFE} cannot be downloaded by name; write {CAFFE}//path/to/weights or "
            f"{CAFFE}/{SCRATCH}"
        )
    return NetworkName(family, model, tag=weights or None)


def anchored(name: str, root: Path) -> str:
    """Return a name with a relative path of weights resolved against `root`."""
    base, slash, weights = name.partition("/")
    return f"{base}/{root / weights}" if slash and weights.startswith(".") else name


def resolve_network(name: str, kind: str, suite: Suite, place: str, check: bool = True) -> str:
    """Return the name of a network, resolving `suite`, `trunk` and `scratch`.

    Args:
        name: The value of a parameter.
        kind: `Backbone` or `Trunk`, the type of the parameter.
        suite: The suite that names the networks.
        place: The option, key or file that contains the name, for errors.
        check: Raise if a file of weights does not exist.

    Raises:
        BenchError: The name is invalid.
    """
    own = suite.trunk if kind == "Trunk" else suite.backbone
    resolved = {"suite": own, "trunk": suite.trunk, "scratch": suite.trunk.partition("/")[0] + "/" + SCRATCH}.get(
        name, name
    )
    return str(parse_network(resolved, place, check))


def digest_of(value: str, place: str) -> str:
    """Return the part of a run's key for a parameter that names a network or a file.

    Args:
        value: The name of a network, or the absolute path of a file.
        place: The option, key or file that contains the value, for errors.

    Raises:
        BenchError: The file does not exist, or is a folder.
    """
    if not is_path(value):
        return weights_digest(parse_network(value, place))
    path = Path(value)
    if not path.is_file():
        fault = "is a folder; name one file" if path.is_dir() else "does not exist; correct the path"
        raise BenchError(f"{place}: {path} {fault}")
    stat = path.stat()
    return _file_digest(path, stat.st_size, stat.st_mtime_ns)


def weights_digest(network: NetworkName) -> str:
    """Return the part of a run's key for the weights of a network.

    Returns:
        The first 16 digits of the SHA-256 of the file; `scratch`; or `published:` and the name of the weights.
    """
    path = PACKAGED.get(network.family) if network.path is None else network.path
    if network.scratch:
        return SCRATCH
    if path is None:
        return f"published:{network.tag or network.model}"
    stat = path.stat()
    return _file_digest(path, stat.st_size, stat.st_mtime_ns)


@lru_cache
def _file_digest(path: Path, size: int, modified: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()[:16]

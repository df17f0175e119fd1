"""Find the address of published weights, and check that they are on this machine or can be downloaded.

The addresses are in the sources of timm and open_clip. Importing these packages takes seconds because of torch, so this
module reads the entries from the sources. Weights whose entry cannot be read are not checked, and the run may fail when
it loads them.
"""

from __future__ import annotations

import ast
import copy
import os
import re
import socket
import threading
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from fergen_bench.error import BenchError
from fergen_bench.networks.name import NetworkName, parse_network

PATIENCE = 2.0
"""Seconds after which a host that does not answer counts as unreachable."""


@dataclass(frozen=True)
class Published:
    """The address of published weights."""

    repository: str = ""  # of the Hugging Face Hub, optionally with @revision; preferred over the URL
    files: tuple[str, ...] = ()  # file names, of which the repository has one
    url: str = ""
    downloads: str = ""  # folder that a file of this URL is downloaded to

    @property
    def address(self) -> str:
        """URL from which a user can download the weights."""
        if not self.repository:
            return self.url
        from huggingface_hub.constants import ENDPOINT

        name, _, revision = self.repository.partition("@")
        return f"{ENDPOINT}/{name}/resolve/{revision or 'main'}/{self.files[0]}"

    def is_here(self) -> bool:
        """Return True if the weights are in the cache of the library that loads them."""
        if not self.repository:
            return Path(self.downloads, Path(urlsplit(self.url).path).name).is_file()
        from huggingface_hub import try_to_load_from_cache

        name, _, revision = self.repository.partition("@")
        found = (try_to_load_from_cache(name, file, revision=revision or None) for file in self.files)
        return any(isinstance(path, str) for path in found)


def published(network: NetworkName) -> Published | None:
    """Return the address of the published weights of a network; None if it is unknown or there are no such weights."""
    if network.path is not None or network.scratch:
        return None
    entry = {"timm": _timm, "open_clip": _open_clip}.get(network.family, lambda name: None)(network)
    return entry if entry is not None and (entry.repository or entry.url) else None


def require(networks: Iterable[tuple[str, str]]) -> list[str]:
    """Return a sentence for each network whose published weights will be downloaded.

    Args:
        networks: For each network, the option that names it and its name, such as
            ("--set trunk=", "timm:resnet18.tv_in1k").

    Raises:
        BenchError: Weights are not on this machine, and their host is unreachable.
    """
    named: dict[str, str] = {}
    for option, name in networks:
        named.setdefault(name, option)
    missing = {}
    for name in named:
        entry = published(parse_network(name, name, check=False))
        if entry is not None and not entry.is_here():
            missing[name] = entry.address
    if missing and (why := unreachable(missing.values())) is not None:
        listed = " and ".join(f"of {name} ({address})" for name, address in missing.items())
        files = " ".join(f"{named[name]}{name.partition('/')[0]}//path/to/file" for name in missing)
        packaged = {f"{option}{'synth' if 'backbone' in option else 'synth-trunk'}": None for option in named.values()}
        raise BenchError(
            f"the weights {listed} are not on this machine, and {why}; download them elsewhere and name the files "
            f"({files}), or use the packaged networks ({' '.join(packaged)}; for a suite, its keys backbone "
            f"and trunk in bench.toml)"
        )
    return [f"the weights of {name} are downloaded first, from {address}" for name, address in missing.items()]


def unreachable(addresses: Iterable[str]) -> str | None:
    """Return why an address is unreachable, after at most two seconds; None if all addresses are reachable."""
    from huggingface_hub.constants import ENDPOINT, HF_HUB_OFFLINE

    hosts: dict[tuple[str, int], str] = {}
    for address in addresses:
        if HF_HUB_OFFLINE and address.startswith(ENDPOINT):
            return "HF_HUB_OFFLINE is set"
        parts = urlsplit(address)
        known = {} if proxy_bypass(str(parts.hostname)) else getproxies()
        value = known.get(parts.scheme) or known.get("all", "")
        proxy = urlsplit(value if "://" in value or not value else f"http://{value}")
        server = proxy if proxy.hostname else parts
        hosts[str(server.hostname), server.port or (80 if server.scheme == "http" else 443)] = str(parts.hostname)
    unreached: list[str] = []

    def connect(server: tuple[str, int], host: str) -> None:
        try:
            socket.create_connection(server, PATIENCE).close()
            unreached.remove(host)
        except OSError:
            pass

    # In threads, because resolving a name may take far longer than the limit.
    unreached += hosts.values()
    threads = [threading.Thread(target=connect, args=entry, daemon=True) for entry in hosts.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    return f"{unreached[0]} cannot be reached" if unreached else None


def refuse_wrong_activation(networks: Iterable[str]) -> None:
    """Raise if a model of open_clip has another activation than its published weights were trained with.

    Args:
        networks: Names of networks.

    Raises:
        BenchError: The activations differ, and a model with the right one exists.
    """
    for name in dict.fromkeys(networks):
        network = parse_network(name, name, check=False)
        if network.family != "open_clip" or network.tag is None:
            continue
        entry = _open_clip_entries().get(network.model, {}).get(_tag(network.tag))
        quick = None if entry is None else bool(entry.get("quick_gelu"))
        right = network.model.removesuffix("-quickgelu") + ("-quickgelu" if quick else "")
        if quick is None or right == network.model or _quick(network.model) is quick or _quick(right) is not quick:
            continue
        kinds = ("QuickGELU", "GELU") if quick else ("GELU", "QuickGELU")
        raise BenchError(
            f"{name}: the weights {network.tag} were trained with the activation {kinds[0]}, and {network.model} has "
            f"{kinds[1]}, which would compute other features; write open_clip:{right}/{network.tag}"
        )


# ---------------------------------------------------------------------------------------------------------------- timm


def _timm(network: NetworkName) -> Published | None:
    model, _, tag = network.model.partition(".")
    entries = [(name, call) for name, call in _timm_entries(model) if not tag or name.rstrip("*") == network.model]
    weighted = [
        (name, keywords)
        for name, call in entries
        if (keywords := {word.arg: _constant(word.value) for word in call.keywords}).keys()
        & {"url", "hf_hub_id", "file"}
    ]
    # The default entry is marked; otherwise it is the first with weights.
    usual = [(name, keywords) for name, keywords in weighted if name.endswith("*") or "." not in name]
    for name, keywords in (*usual, *weighted)[:1]:
        repository = str(keywords.get("hf_hub_id") or "")
        if repository.endswith("/"):
            repository += name.rstrip("*")
        own = keywords.get("hf_hub_filename")
        files = _with_safe(str(own)) if own else ("model.safetensors", "pytorch_model.bin")
        url = keywords.get("url")
        return Published(repository, files, url if isinstance(url, str) else "", str(_torch_hub() / "checkpoints"))
    return None


@cache
def _timm_entries(model: str) -> list[tuple[str, ast.Call]]:
    """Return the entries of a model in timm's sources, in order: the name with its tag, and the describing call."""
    key = re.compile(rf"^\s*['\"]({re.escape(model)}(?:\.[\w-]+)?\*?)['\"]\s*:\s*(?=_?\w+\()", re.MULTILINE)
    found = []
    for path in sorted((_sources("timm") / "models").glob("*.py")):
        text = path.read_text(encoding="utf-8", errors="replace")
        for match in key.finditer(text) if model in text else ():
            if (call := _call(text[match.end() :])) is not None:
                found.append((match[1], call))
        if found:
            break
    return found


def _call(text: str) -> ast.Call | None:
    """Return the call at the beginning of a text that continues after it; None if there is no call."""
    end = -1
    for _ in range(40):
        if (end := text.find(")", end + 1)) < 0:
            return None
        try:
            tree = ast.parse(text[: end + 1].strip(), mode="eval").body
        except SyntaxError:
            continue
        return tree if isinstance(tree, ast.Call) else None
    return None


def _constant(node: ast.expr) -> Any:
    return node.value if isinstance(node, ast.Constant) else None


def _torch_hub() -> Path:
    """Return the folder of torch.hub."""
    home = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "torch")
    return Path(home).expanduser() / "hub"


# ----------------------------------------------------------------------------------------------------------- open_clip


def _open_clip(network: NetworkName) -> Published | None:
    entry = _open_clip_entries().get(network.model, {}).get(_tag(network.tag or ""))
    if entry is None:
        return None
    name, _, file = str(entry.get("hf_hub") or "").rpartition("/")
    files = _with_safe(file or "open_clip_pytorch_model.bin")
    return Published(name, files, str(entry.get("url") or ""), str(Path("~/.cache/clip").expanduser()))


def _tag(tag: str) -> str:
    return tag.lower().replace("-", "_")


@cache
def _open_clip_entries() -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    """Return open_clip's table of published weights, by model and tag.

    The table is empty if the installed version of open_clip has another form.
    """
    names: dict[str, Any] = {"__name__": "entries", "copy": copy, **vars(typing)}
    try:
        for module in ("constants", "pretrained"):
            tree = ast.parse((_sources("open_clip") / f"{module}.py").read_text(encoding="utf-8"))
            # Keep the table and its helpers, and omit statements that would load torch.
            kept = (ast.Assign, ast.AnnAssign, ast.Expr, ast.For, ast.FunctionDef)
            tree.body = [node for node in tree.body if isinstance(node, kept)]
            exec(compile(tree, module, "exec"), names)  # noqa: S102 - code of an installed package, as in an import
        return dict(names["_PRETRAINED"])
    except Exception:
        return {}


@cache
def _quick(model: str) -> bool | None:
    """Return True if a model of open_clip has QuickGELU; None for an unknown model."""
    import json

    try:
        path = _sources("open_clip") / "model_configs" / f"{model}.json"
        return bool(json.loads(path.read_text(encoding="utf-8")).get("quick_gelu"))
    except (OSError, ValueError):
        return None


# ------------------------------------------------------------------------------------------------------------ of both


def _with_safe(file: str) -> tuple[str, ...]:
    """Return the names of a file of weights, with its safetensors form first."""
    if file == "open_clip_pytorch_model.bin":
        return "open_clip_model.safetensors", file
    stem, _, ending = file.rpartition(".")
    return (f"{stem}.safetensors", file) if ending in {"bin", "pth"} else (file,)


@cache
def _sources(package: str) -> Path:
    """Return the folder of an installed package without importing it."""
    spec = find_spec(package)
    return Path((spec.submodule_search_locations or ["/nowhere"])[0] if spec else "/nowhere")

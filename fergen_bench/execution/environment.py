"""Describe the machine, the packages and the source code of a run, for its record."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import torch

from fergen_bench.experiment.run import Job
from fergen_bench.records.record import NUMBERS


def environment_of(job: Job, device: torch.device) -> dict[str, Any]:
    """Return the environment of a run, as its record stores it.

    Args:
        job: The run; its method file and its number of threads are part of the environment.
        device: The device it executes on.

    Returns:
        Python, platform, device, threads, commits, and the versions of all packages that the benchmark depends on; on
        a GPU, CUDA, cuDNN and driver, too.
    """
    on_gpu = device.type == "cuda"
    environment: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(device) if on_gpu else platform.processor() or platform.machine(),
        "threads": job.threads,
        "commit": commit_of(Path(__file__)),
        "method_commit": commit_of(Path(job.method_file)),
    }
    for package in ("fergen-bench", *_dependencies()):
        try:
            environment[package] = version(package)
        except PackageNotFoundError:
            environment[package] = None
    environment["cpu_capability"] = torch.backends.cpu.get_cpu_capability()
    if on_gpu:
        environment |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(), "driver": _driver()}
    return environment


def resume_identity(job: Job, environment: Mapping[str, Any]) -> dict[str, str]:
    """Return what an interrupted training must share with the process that continues it, for the same numbers."""
    named = ("device", "cpu_capability", "threads", "fergen-bench", *NUMBERS)
    shared = {name: str(environment[name]) for name in named if name in environment}
    return {"key": job.spec.key, "method": job.method_digest} | shared


def _dependencies() -> list[str]:
    """Return the packages that fergen-bench requires, those of NUMBERS first."""
    try:
        lines = requires("fergen-bench") or ()
    except PackageNotFoundError:
        lines = ()
    names = [re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in lines if ";" not in line]
    return [*NUMBERS, *sorted(name for name in names if name.replace("-", "_") not in NUMBERS)]


def _driver() -> str | None:
    """Return the version of the NVIDIA driver; None on systems that do not publish it as Linux does."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    found = re.search(r"\d+\.[\d.]+", text)
    return found[0] if found else None


_OTHER_REPOSITORY = frozenset({"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_PREFIX"})
"""Variables that make git read another repository than that of the current folder."""


def commit_of(file: Path) -> str | None:
    """Return the commit of the repository that tracks a file, without writing anything.

    Args:
        file: A file, such as a method file.

    Returns:
        The first 12 digits of the commit, followed by + where tracked files differ from it. None where no repository
        tracks the file, as with an installed package inside the folder of a repository.
    """
    file = file.resolve()
    outside = {name: value for name, value in os.environ.items() if name not in _OTHER_REPOSITORY}
    environment = {**outside, "GIT_OPTIONAL_LOCKS": "0", "GIT_LITERAL_PATHSPECS": "1"}

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(file.parent), *arguments]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True, env=environment)
        return answer.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", file.name)
        # `describe --dirty` would write the index; `status` leaves it alone where GIT_OPTIONAL_LOCKS is 0.
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("describe", "--always", "--abbrev=12") + ("+" if changed else "")
    except (OSError, ValueError, subprocess.SubprocessError):
        return None

"""The resume state of a training: a file from which an interrupted run continues to the same numbers.

The file contains tensors, numbers and names, and is read without executing code (torch's weights_only). A file is
ignored if it is damaged, or was written by other code, on another device or with another number of threads.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fergen_bench.files.atomic import atomically


class ResumeState:
    """The file that contains the resume state of a run."""

    def __init__(self, path: Path, identity: Mapping[str, Any], every: float) -> None:
        """Describe the file; nothing is read or written yet.

        Args:
            path: The file.
            identity: Values that must be equal for the numbers to be equal; a state with other values is ignored.
            every: Seconds between two writes.
        """
        self._path, self._identity, self._every = path, dict(identity), every
        self._last = self._began = time.monotonic()
        self.earlier = 0.0
        """Seconds that earlier processes spent on the training."""

    def read(self) -> dict[str, Any] | None:
        """Return the last state, and restore the global generators; None if there is no usable state."""
        before = _randomness()
        content = self._read()
        if content is None:
            _restore_randomness(before)
            return None
        state: dict[str, Any]
        state, self.earlier = content
        return state

    def _read(self) -> tuple[dict[str, Any], float] | None:
        """Return the last state and the seconds that it took; set the global generators to it."""
        if not self._path.is_file():
            return None
        try:
            content = torch.load(self._path, map_location="cpu", weights_only=True)
            if content["identity"] != self._identity:
                return None
            found = content["state"], float(content["seconds"])
            _restore_randomness(content["randomness"])
        except Exception:  # torch raises many types for a damaged file, and ignoring the file costs only time
            return None
        return found

    def due(self) -> bool:
        """Return True if the interval between two writes has passed; a shorter training is faster to repeat."""
        return time.monotonic() - self._last >= self._every

    def write(self, state: Mapping[str, Any]) -> None:
        """Write a state and the state of every global generator, atomically."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        seconds = self.earlier + time.monotonic() - self._began
        content = {"identity": self._identity, "state": dict(state), "seconds": seconds, "randomness": _randomness()}
        with atomically(self._path) as draft:
            torch.save(content, draft)
        self._last = time.monotonic()

    def remove(self) -> None:
        """Remove the file, because the run has ended."""
        self._path.unlink(missing_ok=True)


def _randomness() -> dict[str, Any]:
    # Methods should draw from their context, but may use the global generators.
    _, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "numpy": (torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, gauss),
        "python": random.getstate(),
    }


def _restore_randomness(state: Mapping[str, Any]) -> None:
    keys, *rest = state["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    random.setstate(state["python"])
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"][: torch.cuda.device_count()])

"""A training that was interrupted, on the disk: written now and then, so that the same run goes on where it was and
comes to the same numbers.

The file holds tensors, numbers and names, and is read without running code (torch's weights_only). One that is damaged,
or was written by other code, another device or another number of threads, counts for nothing.
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
    """What is left of a run that did not end."""

    def __init__(self, path: Path, identity: Mapping[str, Any], every: float) -> None:
        """identity: what must be the same for the numbers to be the same. every: seconds between two savings."""
        self._path, self._identity, self._every = path, dict(identity), every
        self._last = self._began = time.monotonic()
        self.earlier = 0.0
        """seconds that processes before this one have spent on it"""

    def read(self) -> dict[str, Any] | None:
        """The last state saved, or None where there is none that counts."""
        before = _randomness()
        content = self._read()
        if content is None:
            _restore_randomness(before)
            return None
        state: dict[str, Any]
        state, self.earlier = content
        return state

    def _read(self) -> tuple[dict[str, Any], float] | None:
        """The last state and the seconds that it took; sets the global generators to it."""
        if not self._path.is_file():
            return None
        try:
            content = torch.load(self._path, map_location="cpu", weights_only=True)
            if content["identity"] != self._identity:
                return None
            found = content["state"], float(content["seconds"])
            _restore_randomness(content["randomness"])
        except Exception:  # torch raises what it likes at a damaged file, and it is only time that is lost
            return None
        return found

    def due(self) -> bool:
        """Whether it is time to save again: what takes less than that is sooner trained again."""
        return time.monotonic() - self._last >= self._every

    def write(self, state: Mapping[str, Any]) -> None:
        """Saves a state, whole, at once, with the state of every global generator."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        seconds = self.earlier + time.monotonic() - self._began
        content = {"identity": self._identity, "state": dict(state), "seconds": seconds, "randomness": _randomness()}
        with atomically(self._path) as draft:
            torch.save(content, draft)
        self._last = time.monotonic()

    def remove(self) -> None:
        """The run has ended."""
        self._path.unlink(missing_ok=True)


def _randomness() -> dict[str, Any]:
    # Methods may use the global generators, whatever we think of it.
    _, keys, place, has_gauss, gauss = np.random.get_state()  # noqa: NPY002
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "numpy": (torch.from_numpy(np.asarray(keys).astype(np.int64)), place, has_gauss, gauss),
        "python": random.getstate(),
    }


def _restore_randomness(state: Mapping[str, Any]) -> None:
    keys, *rest = state["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    random.setstate(state["python"])
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"][: torch.cuda.device_count()])

"""Labelled training images as a loop reads them: in memory, or streamed from disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from fergen_bench.data.domain import read_ahead, upload
from fergen_bench.networks.kernels import scoring_batch

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from fergen_bench.data.domain import Split, Unlabelled


def labelled(split: Split, device: torch.device) -> Iterator[tuple[Tensor, np.ndarray]]:
    """Yield the images of a split in order, one scoring batch at a time, with their labels.

    Args:
        split: The split to read.
        device: Device of the images.

    Yields:
        Images uint8 (B, 3, height, width) on the device, and labels int64 (B,) as a numpy array.
    """
    done = 0
    for images in split.batches(device, scoring_batch(device)):
        yield images, split.labels[done : done + len(images)]
        done += len(images)


class SplitImages:
    """The images of a split on a device.

    All images are uploaded at once where they fit; otherwise batches are read from the memory map.
    """

    def __init__(self, split: Split | Unlabelled, device: torch.device) -> None:
        self._split, self._device = split, device
        self._resident = self._upload() if self._fits() else None

    def _upload(self) -> Tensor:
        """Upload all images in blocks, so that the host never contains a second copy."""
        height, width = self._split.size
        faces = torch.empty(len(self._split), 3, height, width, dtype=torch.uint8, device=self._device)
        for start in range(0, len(self._split), 1024):
            block = self._split.faces(slice(start, start + 1024))
            faces[start : start + len(block)] = block
        return faces

    def _fits(self) -> bool:
        if self._device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self._device)
            return self._split.bytes < 0.5 * free
        return self._split.bytes < 2**30

    def at(self, rows: Tensor) -> Tensor:
        """Return images uint8 (len(rows), 3, height, width) by their rows, int64 on the CPU."""
        return next(self.batches([rows]))

    def batches(self, rows: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield images uint8 (B, 3, height, width) for each batch of rows, int64 (B,) on the CPU."""
        if self._resident is not None:
            return _gathered(self._resident, rows)
        return read_ahead(lambda batch: self._split.faces(batch.numpy()), rows, self._device)


@dataclass(frozen=True)
class Rows:
    """A tensor with one row per image of a split, such as its frozen features."""

    values: Tensor

    def batches(self, rows: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield the values of each batch of rows, int64 (B,) on the CPU."""
        return _gathered(self.values, rows)


def _gathered(values: Tensor, rows: Sequence[Tensor]) -> Iterator[Tensor]:
    """Yield rows of a tensor batch by batch. The indices of all batches are uploaded at once."""
    everyone = upload(torch.cat(list(rows)), values.device)
    return (values.index_select(0, index) for index in everyone.split([len(batch) for batch in rows]))

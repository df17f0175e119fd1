"""Open weights of a known network, with their classifier, as a finished model."""

from __future__ import annotations

from typing import Any

import numpy as np

from fergen_bench.finished.model import FinishedModel, InputShape
from fergen_bench.networks.name import digest_of, parse_network


def open_network(name: str, device: str, threads: int) -> FinishedModel:
    """Open a network of timm or open_clip with weights that include a classifier.

    Args:
        name: The network and the file of its weights, such as timm:resnet18//data/fer.pth.
        device: cpu, cuda or cuda:1.
        threads: CPU threads.

    Raises:
        BenchError: The file has no classifier, or does not fit the network.
    """
    import torch

    from fergen_bench.networks.classifier import load_classifier

    torch.set_num_threads(threads)
    target = torch.device(device)
    body, expected, notes = load_classifier(name, target)
    stated: dict[str, Any] = {
        "size": (expected.size, expected.size),
        "filter": expected.interpolation,
        "range": "0-1",
        "mean": tuple(expected.mean),
        "deviation": tuple(expected.deviation),
        "colour": "rgb",
    }

    @torch.no_grad()
    def run(batch: np.ndarray) -> np.ndarray:
        return body(torch.from_numpy(batch).to(target)).float().cpu().numpy()

    parsed = parse_network(name, "model")
    stem = f"{parsed.model}-{parsed.path.stem}" if parsed.path is not None else parsed.model
    return FinishedModel(
        "network",
        stem,
        str(parsed),
        digest_of(str(parsed), "model"),
        run,
        InputShape(3, expected.size, expected.size, "nchw"),
        outputs=body.num_classes,  # type: ignore[arg-type]
        resizes=True,
        stated=stated,
        provider={"torch": torch.__version__},
        notes=notes,
    )

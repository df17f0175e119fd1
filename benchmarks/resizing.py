"""Compare resizing on the device (floats, antialiased) with PIL (bytes): pixels, features, logits and predictions.

    python benchmarks/resizing.py --domain results/cache/domains/synth5-v2/web

The images of a prepared domain are enlarged to the size of files and resized to the network's size in both ways. The
logits are those of a linear probe, fitted to the features of the domain's unchanged images.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fergen_bench.data.domain import Domain
from fergen_bench.networks.kernels import resize
from fergen_bench.networks.loading import load_network
from fergen_bench.training.logistic import solve

KINDS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def by_pil(faces: np.ndarray, size: int, kind: str) -> np.ndarray:
    return np.stack([np.asarray(Image.fromarray(face).resize((size, size), KINDS[kind])) for face in faces])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--domain", type=Path, required=True, help="the folder of a prepared domain")
    parser.add_argument("--network", default="synth")
    parser.add_argument("--pixels", type=int, nargs="+", default=[48, 100, 224], help="side of the files")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    domain, network = Domain(arguments.domain), load_network(arguments.network, torch.device("cpu")).eval()
    train, test = (domain.split(part) for part in ("train", "test"))

    @torch.no_grad()
    def features(images: Tensor) -> Tensor:
        return torch.cat([network(block) for block in images.split(256)])

    weight, bias = solve(features(train.faces()).double(), torch.from_numpy(train.labels), 7, 1.0)
    faces = test.faces().permute(0, 2, 3, 1).numpy()
    print(f"{len(faces):,} faces of {domain.folder.name}, {network.name} at {network.size} px")
    print("files   filter     levels: mean, 99.9 %, most   cosine of features, least   logits: mean, most   changed")
    for side in arguments.pixels:
        files = by_pil(faces, side, "bicubic")
        for kind in KINDS:
            theirs = torch.from_numpy(by_pil(files, network.size, kind)).permute(0, 3, 1, 2)
            ours = resize(torch.from_numpy(files).permute(0, 3, 1, 2).float() / 255.0, network.size, kind)
            levels = (255.0 * ours - theirs).abs().flatten()
            seen = [features(images).double() for images in (ours, theirs)]
            cosine = torch.nn.functional.cosine_similarity(*seen)
            logits = [each @ weight.T + bias for each in seen]
            apart = (logits[0] - logits[1]).abs()
            changed = int((logits[0].argmax(1) != logits[1].argmax(1)).sum())
            tail = float(levels.sort().values[int(0.999 * len(levels))])
            print(
                f"{side:3} px  {kind:9} {levels.mean():9.2f} {tail:8.2f} {levels.max():6.2f} {1 - cosine.min():18.1e} "
                f"under 1 {apart.mean():13.4f} {apart.max():6.3f} {changed:9} of {len(faces):,}",
                flush=True,
            )


if __name__ == "__main__":
    main()

"""Measure the private memory of training and of computing features, each in a process of its own.

Pages of the memory map are not counted, because the system reclaims them.

    python benchmarks/memory.py                                 10,000 and 300,000 faces of 112 px (11 GB, mostly holes)
    python benchmarks/memory.py --device cuda --backbone open_clip:ViT-B-32-quickgelu/scratch --trunk timm:resnet18/scratch
"""  # noqa: E501

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any


def private() -> float:
    """Return the memory of this process in MB, without memory maps."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("RssAnon")) / 1024


class Peak:
    """The largest memory within a block, sampled fifty times a second."""

    def __enter__(self) -> Peak:
        self.before = self.most = private()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            self.most = max(self.most, private())

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()


def training(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """A few steps of CAFE on a domain, all of whose positions, labels and draws are there."""
    from training import SIZES, Lender, cafe, replace, torch  # also configures cuBLAS

    from fergen_bench.data.domain import Domain
    from fergen_bench.data.source import open_source

    sizes = replace(
        SIZES["synth5"], backbone=arguments.backbone, trunk=arguments.trunk, batch=32, steps=arguments.steps
    )
    torch.set_num_threads(1)
    device = torch.device(arguments.device)
    ctx = Lender("memory", 0, "last", device, folder / "cache", lambda what, done, total: None)
    with Peak() as peak:
        source = open_source([Domain(folder)], 0)
        opened = private()
        cafe(sizes, 1).fit(source, ctx)
    return {"before": peak.before, "opened": opened, "peak": peak.most, "faces": len(source.train)}


def features(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Frozen features of all faces of a domain."""
    from training import Lender, torch

    from fergen_bench.data.domain import Domain

    torch.set_num_threads(1)
    ctx = Lender("memory", 0, "last", torch.device(arguments.device), folder / "cache", lambda *what: None)
    encoder = ctx.backbone("tiny")  # what it computes takes no time, and its features are as wide as CLIP's
    with Peak() as peak:
        split = Domain(folder).split("train")
        opened = private()
        found = encoder.cached(split)
    return {"before": peak.before, "opened": opened, "peak": peak.most, "faces": len(found)}


def main() -> None:
    """Measure each kind of work in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, nargs="+", default=[10_000, 300_000])
    parser.add_argument("--pixels", type=int, default=112)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--backbone", default="synth")
    parser.add_argument("--trunk", default="synth-trunk")
    parser.add_argument("--what", choices=["training", "features"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    if arguments.what is not None:
        print(json.dumps((training if arguments.what == "training" else features)(arguments.folder, arguments)))
        return
    from generated import generated_domain

    found = []
    print("faces    what      MB before  with labels  at most  bytes a face beyond  seconds")
    with tempfile.TemporaryDirectory() as temporary:
        for faces in arguments.faces:
            domain = generated_domain(Path(temporary), f"faces-{faces}", arguments.pixels, faces)
            for what in ("training", "features"):
                command = [sys.executable, *sys.argv, "--what", what, "--folder", str(domain.folder)]
                started = time.monotonic()
                answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
                took = time.monotonic() - started
                said = json.loads(answer.stdout.splitlines()[-1])
                found.append({"what": what, **said, "seconds": took})
                each = (said["peak"] - said["before"]) * 2**20 / faces
                print(
                    f"{faces:<8,} {what:9} {said['before']:9,.0f} {said['opened']:12,.0f} {said['peak']:8,.0f} "
                    f"{each:20,.0f} {took:8.0f}",
                    flush=True,
                )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

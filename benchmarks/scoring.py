"""Compare frozen features and scoring with the bare networks.

Features of a domain are compared with the encoder's forward at its best batch size; their second use is timed; and all
targets of a run, with cached features, are compared with the trunk's forward.

    python benchmarks/scoring.py                                  the networks of synth5; a minute
    python benchmarks/scoring.py --sizes paper                    ViT-B/32 and ResNet-18 at 224 px, few faces
    python benchmarks/scoring.py --sizes paper --device cuda --faces 12271
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from training import ROOT, SIZES, Sizes, _wait  # first: it configures cuBLAS before torch is loaded

import torch  # isort: skip
from generated import generated_domain

from fergen_bench.execution import runner, scoring
from fergen_bench.experiment.method_file import read_method
from fergen_bench.networks.loading import load_network
from fergen_bench.networks.network import Network
from fergen_bench.training.contract import Context
from fergen_bench.training.load import load_method

BATCHES = (32, 64, 128, 256, 512)
TARGETS = (0.25, 0.13, 0.4, 0.07, 0.15)
"""Shares of the faces that the five targets have: none is a multiple of the batch."""
FACES = {"synth5": 2500, "paper": 160}


def forward(network: Network, sizes: Sizes, device: torch.device, faces: int) -> Callable[[int], float]:
    """Seconds that a number of faces take, as batches of prepared images that are there already."""
    images = network.prepare(torch.rand(max(BATCHES), 3, sizes.pixels, sizes.pixels, device=device))
    half = torch.autocast(device.type, torch.float16, enabled=network.frozen and device.type == "cuda")

    @torch.no_grad()
    def run(batch: int) -> float:
        network.eval()
        _wait(device)
        started = time.process_time() if device.type == "cpu" else time.perf_counter()
        for start in range(0, faces, batch):
            with half:
                network.body(images[: min(batch, faces - start)])
        _wait(device)
        return (time.process_time() if device.type == "cpu" else time.perf_counter()) - started

    return run


def timed(device: torch.device, work: Callable[[], Any]) -> float:
    _wait(device)
    started = time.process_time() if device.type == "cpu" else time.perf_counter()
    work()
    _wait(device)
    return (time.process_time() if device.type == "cpu" else time.perf_counter()) - started


def measured(sizes: Sizes, folder: Path, device: torch.device, rounds: int, faces: int) -> dict[str, Any]:
    domain = generated_domain(folder, f"features-{faces}-{sizes.pixels}", sizes.pixels, faces)
    targets = [
        generated_domain(folder, f"target-{faces}-{index}-{sizes.pixels}", sizes.pixels, 7, int(share * faces))
        for index, share in enumerate(TARGETS)
    ]
    cache = folder / "cache"
    ctx = Context("benchmark", 0, "last", device, cache, lambda what, done, total: None)
    encoder = ctx.backbone(sizes.backbone)
    features = forward(encoder, sizes, device, faces)
    best = min(BATCHES, key=lambda batch: min(features(batch) for _ in range(2)))
    found: dict[str, Any] = {"faces": faces, "encoder batch": best, "extraction": [], "second use": []}
    split = domain.split("train")
    for _ in range(rounds):
        shutil.rmtree(cache, ignore_errors=True)
        encoder._open.clear()
        bound, took = features(best), timed(device, lambda: encoder.cached(split))
        found["extraction"].append((bound, took))
        encoder._open.clear()  # as a new process has it
        found["second use"].append(timed(device, lambda: encoder.cached(split)))

    method = built(sizes, ctx)
    scored = sum(len(target.split("test")) for target in targets)
    trunk = load_network(sizes.trunk, device)
    alone = forward(trunk, sizes, device, scored)
    found["trunk batch"] = best = min(BATCHES, key=lambda batch: min(alone(batch) for _ in range(2)))

    @torch.no_grad()
    def score() -> None:
        job: Any = None  # names the method file in errors
        waiting = [scoring.forward(method, target.split("test"), device, job) for target in targets]
        for target, logits in zip(targets, waiting, strict=True):
            scoring.fetched(logits, target.name, job)

    score()  # fills the cache with the targets' features
    found["scoring"] = [(alone(best), timed(device, score)) for _ in range(rounds)]
    found["scored"] = scored
    return found


def built(sizes: Sizes, ctx: Context) -> Any:
    """Return CAFE before its first step; only its cost matters here, not its predictions."""
    file = read_method(ROOT / "methods" / "cafe.py")
    values = {**file.defaults(sizes.recipe), "backbone": sizes.backbone, "trunk": sizes.trunk}
    method: Any = load_method(file.path, file.class_name, values)
    method.model = method.build(ctx).to(ctx.device).to(memory_format=torch.channels_last).eval()
    return method


def line(what: str, faces: int, pairs: list[tuple[float, float]]) -> str:
    ratios = [bound / took for bound, took in pairs]
    bound, took = (statistics.median(pair[side] for pair in pairs) for side in (0, 1))
    spread = f"{statistics.median(ratios):.3f} ({min(ratios):.2f}-{max(ratios):.2f})"
    return f"  {what:12} {faces / took:10,.0f} of {faces / bound:10,.0f} images/s: {spread}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sizes", nargs="+", choices=list(FACES), default=["synth5"])
    parser.add_argument("--faces", type=int, help="of a domain, and of five targets together")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="also write all rounds here")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    if device.type == "cuda":
        runner.repeatable_on_gpu()
    else:
        torch.set_num_threads(1)  # as runs have it
    results = {}
    for name in arguments.sizes:
        faces = arguments.faces or FACES[name]
        with tempfile.TemporaryDirectory() as folder:
            found = measured(SIZES[name], Path(folder), device, arguments.rounds, faces)
        results[name] = found
        clock = "processor time of one core" if device.type == "cpu" else "wall time"
        print(f"{name}: {faces:,} faces of {SIZES[name].pixels} px, {clock}, rounds in turns, medians")
        print(line("features", faces, found["extraction"]) + f", best batch {found['encoder batch']}")
        print(f"  second use   {1000 * statistics.median(found['second use']):.1f} ms")
        print(line("scoring", found["scored"], found["scoring"]) + f", best batch {found['trunk batch']}", flush=True)
    if arguments.json is not None:
        about = {"device": str(device), "torch": torch.__version__}
        arguments.json.write_text(json.dumps({**about, "results": results}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Compare CAFE's training step in three alternating loops.

The loops are this project's; one written after the released recipe; and the same two networks and optimiser on one
resident batch, the bound.

    python benchmarks/training.py                        the networks of synth5, and the loop alone; a minute or two
    python benchmarks/training.py --sizes paper          ViT-B/32 and ResNet-18 at 224 px on the faces of a small RAF-DB
    python benchmarks/training.py --full --device cuda   RAF-DB-sized and AffectNet-sized domains

On a GPU the networks alone are timed twice: as one CUDA graph with the frozen tower parallel to the trunk, as in this
project's loop, and without a graph. --compile compiles the networks of this loop and of the graph,
as trainings of 20,000 steps or more do.

The loop after the recipe decodes, resizes and augments each face on its own in four worker processes, runs the trunk in
float32 (the frozen tower in float16 on a GPU) and reads the loss after each step. It leaves out the second, mirrored
copy of each image that the released dataset computes and never uses.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fergen_bench.execution import runner  # first: it configures cuBLAS before torch is loaded

import numpy as np  # isort: skip
import torch
from generated import as_jpegs, generated_domain
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from fergen_bench.data.domain import Domain
from fergen_bench.data.source import open_source
from fergen_bench.experiment.method_file import read_method
from fergen_bench.networks.kernels import PatchConvolution, compiled
from fergen_bench.networks.loading import load_network
from fergen_bench.networks.network import Network, Preprocessing
from fergen_bench.training import graph as steps
from fergen_bench.training.contract import Context
from fergen_bench.training.fitting import Fitting
from fergen_bench.training.load import load_method
from fergen_bench.training.loop import GradientMethod

ROOT = Path(__file__).parents[1]
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ALL_BATCHES = Fitting.batches


@dataclass(frozen=True)
class Sizes:
    """The networks, the domain and the batches of a measurement."""

    backbone: str
    trunk: str
    recipe: str
    batch: int
    pixels: int  # side of the domain's images
    faces: int
    steps: int  # of a round


SIZES = {
    "loop": Sizes("tiny", "tiny", "default", 32, 8, 6400, 200),
    "synth5": Sizes("synth", "synth-trunk", "small", 64, 64, 2048, 32),
    "paper": Sizes("open_clip:ViT-B-32-quickgelu/scratch", "timm:resnet18/scratch", "default", 32, 100, 1024, 2),
}
FULL = {
    "RAF-DB": replace(SIZES["paper"], faces=12_271, steps=100),
    "AffectNet": replace(SIZES["paper"], pixels=112, faces=283_901, steps=100),
}


class Tiny(nn.Module):
    """A network of negligible cost, which leaves the cost of the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 512)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(images[:, :, 0, 0])


class Lender(Context):
    """A context that returns a network of negligible cost under the name "tiny"."""

    def backbone(self, name: str, trainable: bool = False, statistics: Any = "own") -> Network:
        if name != "tiny":
            return super().backbone(name, trainable, statistics)
        network = Network(name, Tiny(), 512, Preprocessing(8, MEAN, DEVIATION, "bilinear")).to(self.device)
        return network if trainable else network.freeze(self._cache, self._report, self.precision)


def cafe(sizes: Sizes, epochs: int) -> GradientMethod:
    file = read_method(ROOT / "methods" / "cafe.py")
    networks = {"backbone": sizes.backbone, "trunk": sizes.trunk}
    values = {**file.defaults(sizes.recipe), **networks, "epochs": epochs, "batch_size": sizes.batch}
    method: Any = load_method(file.path, file.class_name, values)
    Fitting.batches = lambda fitting, epoch: ALL_BATCHES(fitting, epoch)[: sizes.steps]  # type: ignore[method-assign]
    return method


# ----------------------------------------------------------------------------------------------------- the other loops


def bare(sizes: Sizes, ctx: Context, graph: bool) -> Callable[[], int]:
    """Return a round of forward, backward and optimiser on one resident batch; it returns the number of images used."""
    encoder, trunk = ctx.backbone(sizes.backbone), ctx.backbone(sizes.trunk, trainable=True)
    method: Any = cafe(sizes, 1)
    method.model = nn.ModuleDict({"trunk": trunk, "fc": nn.Linear(encoder.features, 7)})
    method.model = method.model.to(ctx.device).to(memory_format=torch.channels_last)
    optimizer, _ = method.optimization(steps_per_epoch=1)
    images = torch.rand(sizes.batch, 3, sizes.pixels, sizes.pixels, device=ctx.device)
    seen = [network.prepare(images) for network in (encoder, trunk)]
    labels = torch.arange(sizes.batch, device=ctx.device) % 7
    half = torch.autocast(ctx.device.type, torch.float16, enabled=ctx.device.type == "cuda")
    parallel = torch.cuda.Stream(ctx.device) if graph else None

    def frozen() -> Tensor:
        with torch.no_grad(), half:
            return encoder._program()(seen[0]).float()

    def step() -> None:
        if parallel is not None:
            parallel.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(parallel):
                features = frozen()
        else:
            features = frozen()
        with ctx.autocast():
            mask = torch.sigmoid(trunk._program()(seen[1]).float())
            if parallel is not None:
                torch.cuda.current_stream().wait_stream(parallel)
            loss = functional.cross_entropy(method.model["fc"](features * mask).float(), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    method.model.train()
    run = captured(step) if graph else step

    def round_() -> int:
        for _ in range(sizes.steps):
            run()
        return sizes.steps * sizes.batch

    return round_


def captured(step: Callable[[], None]) -> Callable[[], None]:
    """Capture a step as a CUDA graph and return its replay."""
    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    stream.wait_stream(torch.cuda.current_stream())
    with compiled() if steps.COMPILED_FROM == 0 else contextlib.nullcontext():
        with torch.cuda.stream(stream):
            for _ in range(3):
                step()
        torch.cuda.synchronize()
        with torch.cuda.graph(graph, stream=stream):
            step()
    return graph.replay


class Files(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """Images as files, one by one, as in the recipe."""

    def __init__(self, files: Sequence[tuple[Path, int]], size: int) -> None:
        from torchvision import transforms

        self.files = files
        self.transform = transforms.Compose(
            [
                transforms.ToPILImage(),
                transforms.Resize((size, size)),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, DEVIATION),
                transforms.RandomHorizontalFlip(0.5),
                transforms.RandomErasing(0.5, (0.02, 0.25)),
            ]
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        path, label = self.files[row]
        face = np.asarray(Image.open(path).convert("RGB"))
        if np.random.rand() < 0.5:  # noqa: NPY002
            noise = np.random.normal(0.0, 30.0**0.5, face.shape)  # noqa: NPY002
            face = (face + noise).clip(0, 255).astype(np.uint8)
        return self.transform(face), label


def as_released(sizes: Sizes, ctx: Context, files: Sequence[tuple[Path, int]], workers: int) -> Callable[[], int]:
    """Return a round of the loop after the recipe; it returns the number of images used."""
    encoder = load_network(sizes.backbone, ctx.device).eval().requires_grad_(False)
    trunk = load_network(sizes.trunk, ctx.device)
    for module in (*encoder.modules(), *trunk.modules()):
        if isinstance(module, PatchConvolution):
            module.__class__ = nn.Conv2d  # the class that others use
    fc = nn.Linear(encoder.features, 7).to(ctx.device)
    model = nn.ModuleList([trunk.body, fc]).to(memory_format=torch.contiguous_format)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-4, weight_decay=1e-4)
    half = torch.autocast(ctx.device.type, torch.float16, enabled=ctx.device.type == "cuda")
    data = Files(files, encoder.size)
    loader = torch.utils.data.DataLoader(
        data,
        batch_size=sizes.batch,
        num_workers=workers,
        sampler=torch.utils.data.RandomSampler(data, replacement=True, num_samples=sizes.steps * sizes.batch),
        pin_memory=ctx.device.type == "cuda",
        persistent_workers=workers > 0,
        worker_init_fn=_one_thread,
    )

    def drop_mask() -> Tensor:
        mask = torch.ones(encoder.features)
        for group in range(7):
            start, stop = group * (encoder.features // 7), (group + 1) * (encoder.features // 7)
            mask[start + torch.randperm(stop - start)[:10]] = 0.0
        return mask.to(ctx.device)

    def round_() -> int:
        seen, right, total = 0, 0, 0.0
        model.train()
        for images, labels in loader:
            images, labels = images.to(ctx.device), labels.to(ctx.device)
            with torch.no_grad(), half:
                features = encoder.body(images).float()
            masked = features * torch.sigmoid(trunk.body(images))
            logits = fc(masked)
            width = masked.shape[1] // 7
            largest = (masked * drop_mask())[:, : 7 * width].unflatten(1, (7, width)).amax(2)
            height = masked[:, : 7 * width].unflatten(1, (7, width)).amax(2)
            loss = functional.cross_entropy(logits, labels) + 1.5 * functional.cross_entropy(largest, labels)
            loss = loss + 5.0 * (1.0 - height.mean() / width)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
            right += int((logits.argmax(1) == labels).sum())
            seen += len(labels)
        return seen

    return round_


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)


# --------------------------------------------------------------------------------------------------------------- rounds


def measured(sizes: Sizes, domain: Domain, device: torch.device, rounds: int, workers: int, cache: Path) -> Any:
    """Return the images per second of each loop and round, by wall time and by processor time of this process."""
    others: dict[str, Callable[[], int]] = {}
    found: dict[str, list[tuple[float, float]]] = {"this loop": [], "bare": [], "as released": []}
    started = [0.0, 0.0]

    def report(what: str, done: int, total: int) -> None:
        """Run a round of the other loops after each epoch of this project's loop."""
        if what != "epoch":
            return
        took = time.process_time() - started[1]
        faces = sizes.steps * sizes.batch
        found["this loop"].append((ctx.history[-1]["images_per_second"], faces / took))
        for name, round_ in others.items():
            _wait(device)
            begun = time.perf_counter(), time.process_time()
            faces = round_()
            _wait(device)
            found[name].append((faces / (time.perf_counter() - begun[0]), faces / (time.process_time() - begun[1])))
        _wait(device)
        started[:] = time.perf_counter(), time.process_time()

    ctx = Lender("benchmark", 0, "last", device, cache, report)
    others["bare"] = bare(sizes, ctx, graph=device.type == "cuda")
    if device.type == "cuda":
        others["bare, eager"] = bare(sizes, ctx, graph=False)
        found["bare, eager"] = []
    if sizes.backbone != "tiny":
        files = as_jpegs(domain, cache / "files" / domain.name, 2048)
        others["as released"] = as_released(sizes, ctx, files, workers)
    cafe(sizes, rounds + 1).fit(open_source([domain], 0), ctx)
    return {name: values[1:] for name, values in found.items() if values[1:]}  # the first round warms up


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def table(name: str, sizes: Sizes, found: dict[str, list[tuple[float, float]]]) -> Iterator[str]:
    yield f"{name}: {sizes.backbone} and {sizes.trunk}, batch {sizes.batch}, {sizes.faces:,} faces of {sizes.pixels} px"
    yield f"  {'':12} {'images/s':>10} {'ms/step':>9} {'of bare':>17} {'cpu ms':>9} {'of bare':>17}"
    for loop, values in found.items():
        columns = []
        for kind in range(2):
            ratios = [value[kind] / bound[kind] for value, bound in zip(values, found["bare"], strict=True)]
            of_bare = f"{statistics.median(ratios):.3f} ({min(ratios):.2f}-{max(ratios):.2f})"
            columns += [statistics.median(value[kind] for value in values), of_bare]
        speed, wall, processor, cpu = columns
        yield (
            f"  {loop:12} {speed:10,.1f} {1000 * sizes.batch / speed:9.2f} {wall:>17} "
            f"{1000 * sizes.batch / processor:9.2f} {cpu:>17}"
        )
    if (released := found.get("as released")) is not None:
        ratios = [ours / theirs for (ours, _), (theirs, _) in zip(found["this loop"], released, strict=True)]
        yield f"  this loop is {statistics.median(ratios):.2f} times as fast as the loop after the released recipe"


def main() -> None:
    """Measure the chosen sizes and print a table for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=["loop", "synth5"])
    parser.add_argument("--full", action="store_true", help="domains as large as RAF-DB and AffectNet instead")
    parser.add_argument("--rounds", type=int, default=7, help="of each loop, in turns")
    parser.add_argument("--steps", type=int, help="of a round")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--pixels", type=int, help="side of the faces")
    parser.add_argument("--faces", type=int)
    parser.add_argument("--backbone", help="as in bench.toml, such as open_clip:ViT-B-32-quickgelu/scratch")
    parser.add_argument("--trunk")
    parser.add_argument("--workers", type=int, default=4, help="processes of the loop after the recipe")
    parser.add_argument("--folder", type=Path, help="keep the generated domains here; what is there is used again")
    parser.add_argument("--compile", action="store_true", help="on a GPU, as long trainings do")
    parser.add_argument("--json", type=Path, help="also write all rounds here")
    arguments = parser.parse_args()
    if arguments.compile:
        steps.COMPILED_FROM = 0
    device = torch.device(arguments.device)
    torch.set_num_threads(1 if device.type == "cpu" else torch.get_num_threads())  # as runs have it
    if device.type == "cuda":
        runner.repeatable_on_gpu()
    changes = {
        key: value
        for key in ("steps", "batch", "pixels", "faces", "backbone", "trunk")
        if (value := getattr(arguments, key)) is not None
    }
    chosen = FULL if arguments.full else {name: SIZES[name] for name in arguments.sizes}
    results = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        for name, usual in chosen.items():
            sizes = replace(usual, **changes)
            domain = generated_domain(folder, f"{name}-{sizes.faces}-{sizes.pixels}", sizes.pixels, sizes.faces)
            found = measured(sizes, domain, device, arguments.rounds, arguments.workers, folder / "cache")
            print("\n".join(table(name, sizes, found)), flush=True)
            results[name] = {"sizes": sizes.__dict__, "rounds": found}
    if arguments.json is not None:
        about = {"device": str(device), "torch": torch.__version__, "threads": torch.get_num_threads()}
        if device.type == "cuda":
            about["device"] = torch.cuda.get_device_name(device)
        arguments.json.write_text(json.dumps({**about, "results": results}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

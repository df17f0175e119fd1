"""What test_parallel.py has each of several processes do, and one process alone: python together.py CACHE OUT NAME …,
where names are of BODIES and FITS.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fergen_bench.backbone import load_network
from fergen_bench.domain import Domain, open_source
from fergen_bench.method import Context, GradientMethod, load_method
from fergen_bench.parallel import Processes, share_out
from fergen_bench.plugin import read_method

ROOT = Path(__file__).parents[1]
BODIES = ("synth-trunk", "timm:test_resnet.r160_in1k", "timm:test_efficientnet.r160_in1k", "timm:test_vit.r160_in1k")
FITS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "cafe": (["web"], {"batch_size": 15}),  # a frozen network beside the trained one
    "full_finetune": (["web"], {"batch_size": 15, "backbone": "synth-trunk"}),
    "mmd": (["web", "film"], {"batch_size": 7}),  # couples faces; a pass for each domain
    "dann": (["web", "film"], {"batch_size": 7, "gradient_penalty": 0.1}),  # an adversary, a gradient of a gradient
    "sam": (["web"], {"batch_size": 15}),  # two gradients a step
    "sagnet": (["web"], {"batch_size": 15}),  # gradients for some weights only; swaps styles between faces
    "mixstyle": (["web"], {"batch_size": 15}),  # hooks into the body
}


def states(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def body(name: str, run: Callable[[nn.Module, Tensor], Tensor]) -> dict[str, Any]:
    """In float64: gradients of a loss that couples faces, in weights and faces; gradients of those; statistics."""
    torch.manual_seed(0)
    network = load_network(f"{name}/scratch", torch.device("cpu"))
    inside: nn.Module = network.body.double().train()
    side, found = min(network.size, 64) if "vit" not in name else network.size, dict[str, Any]()
    for faces in (5, 3):  # shares of 3 and 2, of 2 and 1
        images = torch.rand(faces, 3, side, side, dtype=torch.float64, requires_grad=True)
        features = run(inside, images)
        loss = torch.tanh(features @ features.T / features.shape[1]).sum()
        twice = "vit" not in name  # attention has no second derivative on a CPU
        (found[f"images {faces}"],) = torch.autograd.grad(loss, images, create_graph=twice)
        if twice:
            loss = loss + found[f"images {faces}"].square().sum()
        inside.zero_grad()
        if twice:
            loss.backward()
        else:
            run(inside, images).tanh().sum().backward()
        found[f"images {faces}"] = found[f"images {faces}"].detach()
        found |= {f"{key} {faces}": weight.grad for key, weight in inside.named_parameters()}
    found |= states(inside)
    inside.eval()
    with torch.no_grad():
        found["alone"] = run(inside, images[:1])
        found["scored"] = run(inside, images)
    return found


def fit(name: str, domains: list[Domain], values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The first gradients of a training, and what it comes to."""
    file = read_method(ROOT / "methods" / f"{name}.py")
    suite = {"trunk": "synth-trunk", "backbone": "synth"}
    defaults = file.defaults("small")
    values = {**defaults, **{key: suite[key] for key in suite if key in defaults}, "epochs": 2, **values}
    method = load_method(file.path, file.class_name, values)
    assert isinstance(method, GradientMethod)
    ctx = Context("t", 0, "last", torch.device("cpu"), folder, lambda what, done, total: None)
    first: dict[str, Tensor] = {}
    step = torch.optim.AdamW.step

    def noting(optimizer: torch.optim.AdamW, *given: Any) -> Any:
        if not first:
            weights = method.model.named_parameters()
            first.update({key: weight.grad.clone() for key, weight in weights if weight.grad is not None})
        return step(optimizer, *given)

    torch.manual_seed(0)
    torch.optim.AdamW.step = noting  # type: ignore[method-assign]
    try:
        method.fit(open_source(domains, 0, 0.1), ctx)
    finally:
        torch.optim.AdamW.step = step  # type: ignore[method-assign]
    with torch.no_grad():
        logits = method.predict(domains[0].split("test").faces(slice(0, 33)))
    return {"first": first, "last": states(method.model), "logits": logits, "loss": ctx.history[-1]["loss"]}


def main() -> None:
    cache, out, *names = sys.argv[1:]
    torch.set_num_threads(1)
    several = "WORLD_SIZE" in os.environ
    if several:
        Processes("cpu")

    def run(inside: nn.Module, images: Tensor) -> Tensor:
        return share_out(lambda given: given, inside, images) if several else inside(images)

    found: dict[str, Any] = {name: body(name, run) for name in names if name in BODIES}
    for name in names:
        if name in FITS:
            asked, values = FITS[name]
            domains = [Domain(Path(cache, "domains", "synth5-tiny-v1", domain)) for domain in asked]
            found[name] = fit(name, domains, values, Path(out).parent / "cache")
    torch.save(found, out)


if __name__ == "__main__":
    main()

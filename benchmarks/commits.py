"""Compare the processor time of CAFE's training step in this checkout with that in another one.

    python benchmarks/commits.py ../old --domain results/cache/domains/synth5-v2/web [--rounds 5] [--steps 24]

Both train on the same domain with one thread, in processes of their own, in turns. The first epoch of a process warms
up. Processor time barely depends on what else the machine does, apart from shared caches.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def measured(root: Path, domain: Path, precision: str | None, steps: int) -> float:
    """Return the processor milliseconds of a step, after a first epoch of as many steps.

    Args:
        root: The checkout that Python imports from.
        domain: Folder of a prepared domain.
        precision: The precision of the run; None for a checkout that does not have the choice.
        steps: Steps of an epoch.
    """
    import torch

    from fergen_bench.data.domain import Domain
    from fergen_bench.data.source import open_source
    from fergen_bench.experiment.method_file import read_method
    from fergen_bench.training.contract import Context
    from fergen_bench.training.fitting import Fitting
    from fergen_bench.training.load import load_method

    torch.set_num_threads(1)
    whole, ends = Fitting.batches, [0.0]

    def few(fitting: Fitting, epoch: int) -> list[Any]:
        return whole(fitting, epoch)[:steps]

    def report(what: str, done: int, total: int, /) -> None:
        if what == "epoch":
            ends.append(time.process_time())

    Fitting.batches = few  # type: ignore[method-assign]
    file = read_method(root / "methods" / "cafe.py")
    values = {**file.defaults("small"), "backbone": "synth", "trunk": "synth-trunk", "epochs": 3}
    with tempfile.TemporaryDirectory() as cache:
        ctx = Context("commits", 0, "last", torch.device("cpu"), Path(cache), report)
        if precision is not None:
            ctx.precision = precision  # type: ignore[assignment]
        load_method(file.path, file.class_name, values).fit(open_source([Domain(domain)], 0), ctx)
    return 1000 * (ends[3] - ends[1]) / (2 * steps)


def apart(root: Path, domain: Path, precision: str | None, steps: int) -> float:
    """Return the result of `measured` from a process that imports from a checkout."""
    command = [sys.executable, __file__, str(root), "--domain", str(domain), "--steps", str(steps), "--alone"]
    command += [] if precision is None else ["--precision", precision]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Measure in turns, and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="another checkout of this repository")
    parser.add_argument("--domain", type=Path, required=True, help="a prepared domain of 64-pixel faces")
    parser.add_argument("--precision", choices=("fp32", "bf16"), nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=24, help="of an epoch; two epochs are measured")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    domain, steps = arguments.domain.resolve(), arguments.steps
    if arguments.alone:
        precision = arguments.precision[0] if len(arguments.precision) == 1 else None
        print(measured(arguments.other, domain, precision, steps))
        return
    found: dict[str, list[float]] = {}
    for _ in range(arguments.rounds):
        found.setdefault("other checkout", []).append(apart(arguments.other.resolve(), domain, None, steps))
        for precision in arguments.precision:
            found.setdefault(f"this one, {precision}", []).append(apart(ROOT, domain, precision, steps))
        print({name: [round(value, 1) for value in values] for name, values in found.items()}, flush=True)
    for name, values in found.items():
        ratios = [before / now for before, now in zip(found["other checkout"], values, strict=True)]
        spread = f"{min(values):.1f}-{max(values):.1f}"
        print(
            f"{name:16} {statistics.median(values):7.1f} ms a step ({spread}), other / this: "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()

"""Measure the start-up time of commands, in seconds more than a bare interpreter.

    python benchmarks/startup.py [--repeats 9]

Run it in a project whose linear probes have records (fergen-bench run --method linear_probe --seeds 0). The commands
and the bare interpreter alternate, so that all run under the same load. The result is the median of the differences
within each round, in wall time and in processor time, which other work disturbs less. Each command runs once before, so
that modules are compiled.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

CACHED = "run --method linear_probe --seeds 0 --device cpu"
COMMANDS = ("--help", "run --help", "list", "list cafe", "list protocols", CACHED)
REPORT = "report --method linear_probe --to"
"""Only asked what it loads: most of its time is drawing."""
CODE = """
import sys
from fergen_bench import cli
try:
    cli.main()
except SystemExit as end:
    print("LOADED", *(name for name in ("torch", "pandas", "pydantic", "mlflow") if name in sys.modules))
    raise
"""


def spent(command: list[str]) -> tuple[float, float, str]:
    """Wall seconds, processor seconds and standard output of a command."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    before, clock = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    answer = subprocess.run(command, env=environment, capture_output=True, text=True)
    wall, after = time.perf_counter() - clock, resource.getrusage(resource.RUSAGE_CHILDREN)
    if answer.returncode:
        sys.exit(f"{' '.join(command[1:])}: {answer.stderr.strip()}")
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, used, answer.stdout + answer.stderr


def main() -> None:
    """Measure the start-up time of each command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    program = [sys.executable, "-c", "from fergen_bench.cli import main; main()"]
    with tempfile.TemporaryDirectory() as folder:
        loaded = {}
        for name in (*COMMANDS, REPORT):
            words = [*name.split(), *([folder] if name == REPORT else [])]
            _, _, said = spent([sys.executable, "-c", CODE, *words])
            if name == CACHED and "Nothing to do" not in said:
                sys.exit(f"not everything has a record here; first: fergen-bench {CACHED}")
            loaded[name] = said.rpartition("LOADED")[2].splitlines()[0].split()
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    bare_took = []
    for _ in range(repeats):
        bare_took.append(spent([sys.executable, "-c", "pass"])[:2])
        for name in COMMANDS:
            took[name].append(spent([*program, *name.split()])[:2])
    walls, used = (statistics.median(times[kind] for times in bare_took) for kind in (0, 1))
    print(f"a bare interpreter: {walls:.3f} s, {used:.3f} s of a processor; medians of {repeats}")
    print(f"\n{'more than that':34} {'wall':>18} {'processor':>18}  loads")
    for name, times in took.items():
        columns = []
        for kind in (0, 1):
            more = [one[kind] - bare[kind] for one, bare in zip(times, bare_took, strict=True)]
            columns.append(f"{statistics.median(more):.3f} ({min(more):.2f}–{max(more):.2f})")
        print(f"{name[:34]:34} {columns[0]:>18} {columns[1]:>18}  {', '.join(loaded[name]) or 'none of them'}")
    print(f"{REPORT.removesuffix(' --to'):34} {'—':>18} {'—':>18}  {', '.join(loaded[REPORT]) or 'none of them'}")
    print("\nloads: which of torch, pandas, pydantic and mlflow the command imported")


if __name__ == "__main__":
    main()

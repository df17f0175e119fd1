"""The options of a run, each declared once.

A declaration is a flag of `fergen-bench run`, a keyword of `fergen_bench.run` and a row of the documentation.
`python -m fergen_bench.api.options` prints the table of docs/python.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fergen_bench.error import BenchError, did_you_mean

if TYPE_CHECKING:
    from fergen_bench.experiment.run import Selection, View

SELECTIONS = ("last", "source-val")
"""The ways to select a checkpoint."""
VIEWS = ("plain", "mirror")
"""The views of a scored image."""
PRECISIONS = ("fp32", "bf16", "auto")
"""The precisions that a run may be given."""


@dataclass(frozen=True)
class Option:
    """The command-line side of a field of a class of options; the field has the name, the type and the default."""

    spellings: tuple[str, ...]  # such as ("--method", "-m")
    help: str
    completes: Literal["method", "protocol", "suite"] | None = None  # the kind of name that a shell completes
    choices: tuple[str, ...] = ()
    least: float | None = None  # the smallest number allowed
    most: float | None = None  # the largest number allowed
    above: float | None = None  # the number that a float must exceed
    metavar: str | None = None
    without_value: str | None = None  # the value of an option that is given without one
    shows_default: bool = False
    negates: bool = False  # a flag --no-NAME for a field that is True by default
    command_only: bool = False  # a mode of the command, without a keyword in Python


def option(default: Any, spellings: str, help: str, **rest: Any) -> Any:
    """Declare a field of a class of options, with its flags and its line of help."""
    metadata = {"option": Option(tuple(spellings.split()), help, **rest)}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class RunOptions:
    """The options of `fergen-bench run` and the keywords of `fergen_bench.run`.

    Lists become tuples, and one name stands for a list of one. Values that no run could have raise `BenchError`.
    """

    methods: tuple[str, ...] = option((), "--method -m", "A method; repeat it for several.", completes="method")
    protocol: str = option(
        "leave-none",
        "--protocol -p",
        "The protocol: which domains train, which are scored.",
        completes="protocol",
        shows_default=True,
    )
    suite: str | None = option(
        None,
        "--suite -s",
        "The suite of domains. Default: that of the protocol, then of bench.toml, then synth5.",
        completes="suite",
    )
    backbone: str | None = option(
        None, "--backbone -b", "The encoder: synth, open_clip:MODEL/TAG, timm:MODEL, …//path/to/weights."
    )
    parameters: Mapping[str, Any] = option({}, "--set", "A value for a parameter of the method; repeat it for several.")
    seeds: tuple[int, ...] | None = option(None, "--seeds", "Seeds in place of the protocol's.")
    sources: tuple[str, ...] | None = option(None, "--sources", "Train only on these domains, each alone.")
    targets: tuple[str, ...] | None = option(None, "--targets", "Score only these domains.")
    selection: Selection | None = option(  # noqa: RUF009 - returns a field
        None, "--selection", "Which checkpoint is scored. Default: the protocol's.", choices=SELECTIONS
    )
    views: tuple[View, ...] | None = option(
        None,
        "--views",
        "Average the logits of these views of a scored image: plain, mirror. Default: the protocol's.",
        metavar="plain,mirror",
    )
    prior: float | None = option(
        None,
        "--prior",
        "Take this share of the source's class frequencies out of the logits, from 0 to 1. Default: the protocol's.",
        least=0,
        most=1,
    )
    device: str | None = option(None, "--device", "auto, cpu, cuda or cuda:1. Default: that of bench.toml, then auto.")
    precision: Literal["fp32", "bf16", "auto"] | None = option(
        None,
        "--precision",
        "fp32, bf16 or auto: bf16 on a GPU, and on a CPU that multiplies it natively. Default: that of bench.toml, "
        "then fp32 on a CPU and bf16 on a GPU.",
        choices=PRECISIONS,
    )
    jobs: int | None = option(
        None, "--jobs -j", "Runs at a time. Default: one per core, or one per GPU. 0: in this process.", least=0
    )
    shard: tuple[int, int] = option(
        (1, 1), "--shard", "Run every n-th run, starting from the i-th, to share a plan between machines."
    )
    gpus_per_run: float | None = option(
        None, "--gpus-per-run", "The share of a GPU per run: 0.5 puts two runs on each GPU.", above=0
    )
    ray: str | None = option(
        None,
        "--ray",
        "Run on the Ray cluster with this head node; without an address, on a Ray started on this machine.",
        metavar="[ADDRESS]",
        without_value="local",
    )
    cpus_per_run: float | None = option(
        None, "--cpus-per-run", "With --ray: CPUs per run. Default: 1, and 4 with a GPU.", above=0
    )
    slurm: Mapping[str, str] | None = option(
        None, "--slurm", "Run as a Slurm job array: partition=gpu,gpus=1,cpus=4,mem=16G,time=4:00:00,array=8."
    )
    dry_run: bool = option(False, "--dry-run", "Print the plan and stop.", command_only=True)
    rerun: bool = option(False, "--rerun", "Re-run even where a record exists.")
    records: str | None = option(
        None,
        "--records",
        "Runs in these records count as done, too, and are copied to results/runs: reference (the committed results), "
        "a results folder or packed records.",
        metavar="PATH",
    )
    include_near_duplicates: bool = option(
        False,
        "--include-near-duplicates",
        "Also score target images that have a near-duplicate among the source's training images.",
    )
    audit: bool = option(
        True, "--no-audit", "Do not look for near-duplicates between domains never compared before.", negates=True
    )
    keep_models: bool = option(False, "--keep-models", "Save each fitted method beside its record, as safetensors.")
    replay: Path | None = option(  # noqa: RUF009
        None,
        "--replay",
        "Repeat the run of this record, change no file, and report whether the numbers are equal.",
        command_only=True,
    )
    profile: bool = option(
        False, "--profile", "Report where the time of each run goes, and trace some of its steps for Perfetto."
    )
    track: bool = option(True, "--no-track", "Do not mirror records to MLflow.", negates=True)
    allow_missing_class: bool = option(
        False, "--allow-missing-class", "Accept a source without images of some expression."
    )

    def __post_init__(self) -> None:
        for name in ("methods", "sources", "targets", "seeds", "shard", "views"):
            value = getattr(self, name)
            if isinstance(value, str | int):
                object.__setattr__(self, name, (value,))
            elif value is not None:
                object.__setattr__(self, name, tuple(value))
        if self.selection is not None and self.selection not in SELECTIONS:
            raise BenchError(
                f"selection: {self.selection!r} is not a selection{did_you_mean(self.selection, SELECTIONS)}"
            )
        if self.precision is not None and self.precision not in PRECISIONS:
            raise BenchError(
                f"precision: {self.precision!r} is not a precision{did_you_mean(self.precision, PRECISIONS)}"
            )
        self._check_scoring()
        if self.seeds is not None and (not self.seeds or any(not _is_seed(seed) for seed in self.seeds)):
            raise BenchError(f"seeds: {list(self.seeds)!r} is not a list of seeds. Give one or more integers from 0.")
        if (
            len(self.shard) != 2
            or any(not _is_seed(part) for part in self.shard)
            or not 1 <= self.shard[0] <= self.shard[1]
        ):
            raise BenchError(f"shard: {self.shard!r} is not a share. Give (2, 8) for the second of eight.")
        for name, least in (("jobs", 0), ("gpus_per_run", None), ("cpus_per_run", None)):
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise BenchError(f"{name}: {value!r} is not a number.")
            if value < 0:
                raise BenchError(f"{name}: {value} is below 0. Give a larger number.")
            if least is None and value == 0:
                raise BenchError(f"{name}: {value} must be above 0.")
        if self.slurm is not None:
            if isinstance(self.slurm, str):
                raise BenchError(f"slurm: {self.slurm!r} is not a mapping. Give a dictionary such as {{'gpus': 1}}.")
            object.__setattr__(self, "slurm", {key: str(value) for key, value in self.slurm.items()})

    def _check_scoring(self) -> None:
        """Raise for views that do not exist, and for a prior that is not a share."""
        for view in self.views or ():
            if view not in VIEWS:
                raise BenchError(f"views: {view!r} is not a view{did_you_mean(str(view), VIEWS)}")
        if self.views is not None and (not self.views or len(set(self.views)) < len(self.views)):
            raise BenchError(f"views: {', '.join(self.views) or 'none'}: give plain, mirror or both, each once.")
        number = isinstance(self.prior, int | float) and not isinstance(self.prior, bool)
        if self.prior is not None and not (number and 0 <= self.prior <= 1):
            raise BenchError(f"prior: {self.prior!r} is not a share. Give a number from 0 to 1, such as 0.5.")


def _is_seed(seed: Any) -> bool:
    return isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0


def declared(kind: type = RunOptions) -> Iterable[tuple[Field[Any], Option]]:
    """Yield each field of a class of options with its command-line side, in the order of the help text."""
    for one in fields(kind):
        yield one, one.metadata["option"]


def keywords(kind: type = RunOptions) -> list[str]:
    """Return the names that a function with options takes as keywords."""
    return [one.name for one, option in declared(kind) if not option.command_only]


def from_keywords(
    values: Mapping[str, Any], kind: type = RunOptions, function: str = "run", others: Iterable[str] = ()
) -> Any:
    """Return the options of a call.

    Args:
        values: The keywords.
        kind: The class of the options.
        function: The name of the function, for errors.
        others: Its keywords that are not options of the class, for errors.

    Raises:
        TypeError: A keyword does not exist.
        BenchError: A value is one that no run could have.
    """
    known = keywords(kind)
    for name in values:
        if name not in known:
            raise TypeError(f"{function}() has no keyword {name!r}{did_you_mean(name, [*known, *others])}")
    return kind(**values)


def table(kind: type = RunOptions, function: str = "run") -> str:
    """Return the options as a Markdown table: flag, keyword, default, meaning."""
    lines = [f"| `fergen-bench {function}` | `fb.{function}` | default | meaning |", "| --- | --- | --- | --- |"]
    for one, option in declared(kind):
        flag = ", ".join(f"`{spelling}`" for spelling in option.spellings)
        keyword = "—" if option.command_only else f"`{one.name}`"
        default = "—" if option.command_only else f"`{'{}' if one.default is MISSING else repr(one.default)}`"
        meaning = option.help
        if option.choices:
            meaning += f" One of: {', '.join(option.choices)}."
        lines.append(f"| {flag} | {keyword} | {default} | {meaning} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())

"""Find the fitted methods that online runs start from, and plan the trainings of those that are missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fergen_bench.error import BenchError
from fergen_bench.records import store
from fergen_bench.wording import listed, many

if TYPE_CHECKING:
    from fergen_bench.experiment.outline import Outline


def bases_to_train(
    adapting: Sequence[Outline], fingerprints: Mapping[str, str], runs: Path, keep_models: bool
) -> dict[str, Outline]:
    """Return the bases of online runs that have to be trained before them, by key.

    Args:
        adapting: The online runs that have to be executed.
        fingerprints: Fingerprint of every domain.
        runs: The folder of the records.
        keep_models: Train a base again that has a record without a checkpoint.

    Raises:
        BenchError: A base has a record without a checkpoint.
    """
    found = {}
    for outlined in adapting:
        if outlined.base is None:
            continue
        spec = outlined.base.run.with_fingerprints(fingerprints)
        recorded = store.find(spec, runs) is not None
        if recorded and spec.model_path(runs).is_file():
            continue
        if recorded and not keep_models:
            raise BenchError(
                f"{spec.path(runs)}: {outlined.method.name} starts from the checkpoint of this run, {spec.title}, "
                f"which was not kept; repeat the command with --keep-models, which trains it once more and keeps it"
            )
        found[spec.key] = outlined.base
    return found


def edited_bases(adapting: Sequence[Outline], fingerprints: Mapping[str, str], runs: Path) -> list[str]:
    """Return the method of each base, once per base, whose checkpoint another text of the method's file made.

    Args:
        adapting: The online runs that have to be executed.
        fingerprints: Fingerprint of every domain.
        runs: The folder of the records.
    """
    bases = {
        spec.key: (spec, one.base.method)
        for one in adapting
        if one.base is not None and (spec := one.base.run.with_fingerprints(fingerprints)).model_path(runs).is_file()
    }
    return [
        method.name
        for spec, method in bases.values()
        if (record := store.find(spec, runs)) is not None and record.method_digest != method.digest
    ]


def note_on_bases(bases: Mapping[str, Outline], adapting: Sequence[Outline]) -> list[str]:
    """Return a note on the bases that are trained first."""
    if not bases:
        return []
    labels = dict.fromkeys(base.run.label for base in bases.values())
    methods = dict.fromkeys(one.method.name for one in adapting if one.base is not None)
    return [
        f"{many(len(bases), 'run', 'are')} trained first, with models kept ({listed(labels)}): {listed(methods)} "
        f"{'starts' if len(methods) == 1 else 'start'} from them"
    ]

"""Prepare the domains of a plan, check them, search them for near-duplicates, and choose which images count."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fergen_bench.data.corruption import VERSION
from fergen_bench.data.domain import Domain
from fergen_bench.data.labels import EXPRESSIONS, absent_from
from fergen_bench.data.prepared import read_about
from fergen_bench.datasets import NAMED
from fergen_bench.datasets import comparisons as auditing
from fergen_bench.datasets.comparisons import Comparisons
from fergen_bench.datasets.standing import Standings
from fergen_bench.error import BenchError
from fergen_bench.experiment.project import available_cores
from fergen_bench.experiment.run import Corruption, digest_of
from fergen_bench.files.bounded import is_path
from fergen_bench.networks.name import PACKAGED, PACKAGED_SIZE, parse_network
from fergen_bench.progress import silent
from fergen_bench.wording import listed, many

if TYPE_CHECKING:
    from fergen_bench.data.suite import Suite
    from fergen_bench.experiment.outline import Planned
    from fergen_bench.experiment.project import Project
    from fergen_bench.experiment.protocol import Corruptions
    from fergen_bench.experiment.run import Run
    from fergen_bench.progress import Progress

QUICK = 60.0
"""Seconds that an audit before the runs may take."""


class PreparedDomains:
    """The prepared domains of a plan.

    Attributes:
        folders: Prepared folder of each domain.
        fingerprints: Fingerprint of each domain.
    """

    def __init__(self, project: Project, suite: Suite, names: Iterable[str], progress: Progress | None) -> None:
        self._project, self._suite, self._progress = project, suite, progress
        self.folders: dict[str, Path] = {}
        self.fingerprints: dict[str, str] = {}
        self._abouts: dict[str, dict[str, Any]] = {}
        self.prepare(names)

    def prepare(self, names: Iterable[str]) -> None:
        """Prepare further domains of the suite; domains that are prepared already stay as they are.

        Raises:
            BenchError: A domain is not configured or cannot be read.
        """
        new = [name for name in names if name not in self.folders]
        for name, folder in self._project.prepared(self._suite, new, self._progress).items():
            about = read_about(folder)
            self.folders[name], self.fingerprints[name], self._abouts[name] = folder, about["fingerprint"], about

    # ------------------------------------------------------------------------------------------------ near-duplicates

    def audit(self, planned: Planned, progress: Progress | None, wanted: bool) -> list[str]:
        """Search the pairs of sources and targets that were never compared for near-duplicates, where that is quick.

        Args:
            planned: The runs, which name the pairs.
            progress: Receives the progress of the search.
            wanted: False to search nothing and only note which domains were not compared.

        Returns:
            Sentences about what was or was not compared.
        """
        missing = [] if self._suite.distinct else self._never_compared(planned)
        if not missing:
            return []
        concerned = {
            self.fingerprints[name]: name
            for name in self.folders
            if any(self.fingerprints[name] in pair for pair in missing)
        }
        opened = [Domain(self.folders[name], name) for name in concerned.values()]
        seconds = auditing.estimated_seconds(opened, self._project.sketches)
        command = f"fergen-bench data audit --suite {self._suite.name}"
        names, were = ", ".join(concerned.values()), "was" if len(concerned) == 1 else "were"
        if not wanted or seconds >= QUICK:
            takes = f"about {seconds:.0f} s" if seconds < 90 else f"about {seconds / 60:.0f} min"
            return [
                f"not audited: {names} {were} never compared for near-duplicates; compare them once, in {takes}, with: "
                f"{command}"
            ]
        try:
            auditing.compare(
                missing, opened, self.comparisons, self._project.sketches, available_cores(), progress or silent
            )
        except BenchError as error:
            return [f"not audited: {error}; compare the domains later with: {command}"]
        found = [comparison for pair in missing if (comparison := self.comparisons.find(*pair)) is not None]
        count = sum(len(comparison.pairs) for comparison in found)
        return [
            f"audited {names}, which {were} never compared for near-duplicates: "
            f"{many(count, 'pair of images', 'were')} found (other crops of a picture cannot be found); see them with: "
            f"{command}"
        ]

    def _never_compared(self, planned: Planned) -> list[tuple[str, str]]:
        """Return the pairs of fingerprints of sources and targets that have no stored comparison."""
        named = {(source, target) for run in planned.runs for source in run.sources for target in run.targets}
        states = ((self.fingerprints[one], self.fingerprints[other]) for one, other in named)
        pairs = sorted({(min(pair), max(pair)) for pair in states})
        return [pair for pair in pairs if self.comparisons.find(*pair) is None]

    @cached_property
    def comparisons(self) -> Comparisons:
        """The stored comparisons of the project."""
        return Comparisons(self._project.comparisons)

    @cached_property
    def _standings(self) -> Standings:
        return Standings(self._suite, self.comparisons, self._project.settings.seen_share)

    # ------------------------------------------------------------------------------------------ which images are scored

    def excluding(self, spec: Run, include: bool) -> tuple[Run, dict[str, Mapping[int, str]]]:
        """Exclude the target images that have a near-duplicate in the sources.

        Args:
            spec: The run.
            include: True to exclude no image.

        Returns:
            The run with the digests of its excluded images, and the row and id of every excluded image, by target.
        """
        found: dict[str, Mapping[int, str]] = {}
        for target in () if include else spec.targets:
            sources = {name: self.fingerprints[name] for name in spec.sources}
            part = spec.scored_part(target, self._abouts[target])
            if images := self._standings.of(sources, target, self.fingerprints[target], part).left_out:
                found[target] = images
        excluded = {target: digest_of(images.values()) for target, images in found.items()}
        return replace(spec, excluded=excluded), found

    def corruptions(self, spec: Run, wanted: Corruptions | None) -> list[Corruption]:
        """Return the corruptions of a run: every factor at every level, on every target concerned."""
        if wanted is None:
            return []
        found = []
        for target, relation in spec.relations.items():
            if wanted.targets == "all" or relation == "source":
                part = spec.scored_part(target, self._abouts[target])
                images = min(wanted.faces, sum(self._abouts[target]["counts"][part].values()))
                levels = wanted.levels().items()
                found += [
                    Corruption(target, factor, float(at), images, VERSION) for factor, ats in levels for at in ats
                ]
        return found

    # -------------------------------------------------------------------------------------------------------- checking

    def check(self, planned: Planned, allow_missing_class: bool) -> list[str]:
        """Check that sources and targets have images.

        Args:
            planned: The runs.
            allow_missing_class: True to accept sources without training images of some expression.

        Returns:
            Sentences about incomplete copies, contradictory labels, targets without some expression and images that
            are larger than the networks see them.

        Raises:
            BenchError: A domain has no image of the part that is needed, or a source lacks an expression.
        """
        self._check_sources(planned, allow_missing_class)
        self._check_adaptation_targets(planned)
        self._check_streams(planned)
        return [*self._notes_on_copies(planned), *self._notes_on_targets(planned), *self._notes_on_sizes(planned)]

    def _check_sources(self, planned: Planned, allow_missing_class: bool) -> None:
        for source in dict.fromkeys(name for run in planned.runs for name in run.sources):
            absent = self._absent(source, "train", "source")
            if absent and not allow_missing_class:
                remedy = "complete this copy" if self._abouts[source].get("dataset") in NAMED else "add some"
                raise BenchError(
                    f"the source {source} has no training images of {', '.join(absent)}; {remedy}, or pass "
                    f"--allow-missing-class"
                )

    def _check_adaptation_targets(self, planned: Planned) -> None:
        for target in dict.fromkeys(run.adaptation_target for run in planned.runs if run.adaptation_target is not None):
            if not sum(self._abouts[target]["counts"].get("train", {}).values()):
                raise BenchError(
                    f"{self.folders[target]}: the domain {target} has no train split, so no method can adapt to it; "
                    f"leave it out with --targets"
                )

    def _check_streams(self, planned: Planned) -> None:
        """Raise where a target, or the part of it that is corrupted, has fewer images than a batch of its stream."""
        corrupted = [] if planned.corruptions is None else [planned.corruptions.faces]
        for run in planned.runs:
            size = run.parameters["stream_batch"] if run.online else 0
            for target in run.targets:
                part = run.scored_part(target, self._abouts[target])
                count = min(sum(self._abouts[target]["counts"].get(part, {}).values()), *corrupted, 1 << 62)
                if count < size:
                    fewer = min(count, max(2, count // 4))
                    raise BenchError(
                        f"{self.folders[target]}: the stream of {target} has {many(count, 'image')}, fewer than one "
                        f"batch of {run.method}, {size}; lower it with --set stream_batch={fewer}"
                    )

    def _notes_on_copies(self, planned: Planned) -> list[str]:
        notes = [
            f"{name} differs from the dataset that its owner distributes: {self._abouts[name]['verdict']}"
            for name in planned.domains
            if self._abouts[name].get("whole") is False
        ]
        return notes + [
            f"{name} has contradictory labels ({found['total']:,}), such as: {found['lines'][0]}"
            for name in planned.domains
            if (found := self._abouts[name].get("labels_disagree"))
        ]

    def _notes_on_targets(self, planned: Planned) -> list[str]:
        profile = self._suite.profile
        parts = dict.fromkeys(
            (target, run.scored_part(target, self._abouts[target])) for run in planned.runs for target in run.targets
        )
        notes = []
        for target, part in parts:
            if absent := self._absent(target, part, "target"):
                notes.append(
                    f"the target {target} has no images of {', '.join(absent)}: its balanced accuracy is the mean over "
                    f"the other expressions"
                )
            if part != "test":
                count = sum(self._abouts[target]["counts"][part].values())
                notes.append(f"profile {profile}: {target} is scored on its {many(count, f'{part} image')}")
        return notes

    def _notes_on_sizes(self, planned: Planned) -> list[str]:
        """Note images that are stored larger than the packaged networks see them, if the runs use no others."""
        networks = {
            str(value)
            for run in planned.runs
            for parameter in run.weights
            if (value := run.parameters[parameter]) is not None and not is_path(str(value))
        }
        if not networks or any(parse_network(name, "", check=False).family not in PACKAGED for name in networks):
            return []
        large = [name for name in planned.domains if max(self._abouts[name].get("size", [0])) > PACKAGED_SIZE]
        if not large:
            return []
        remedy = f"give them size = {PACKAGED_SIZE} in bench.toml"
        if self._suite.synthetic:
            remedy = "name the suite of the same people at this size with --suite"
        return [
            f"images of {listed(large)} are stored larger than the {PACKAGED_SIZE} pixels per side that these networks "
            f"see, which takes longer (from 224 pixels about 2.5 times); {remedy}, which makes new runs"
        ]

    def _absent(self, name: str, part: str, role: str) -> list[str]:
        """Return the expressions without images in a part of a domain; raise where the part is empty."""
        counts = self._abouts[name]["counts"].get(part, {})
        absent = absent_from(counts)
        if len(absent) == len(EXPRESSIONS):
            raise BenchError(
                f"{self.folders[name]}: the domain {name} has no {part} split, so it cannot be a {role}; leave it out "
                f"with --{role}s"
            )
        return absent

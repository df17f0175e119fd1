"""Find the project: its settings in bench.toml, and its methods, protocols, suites and domains by name.

A project is the folder of the nearest bench.toml upwards, or the working directory. Its own methods/ and protocols/
precede the shipped ones. Installed packages can provide methods, too (entry points of the group
`fergen_bench.methods`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fergen_bench import datasets, synth
from fergen_bench.data.prepared import is_prepared, read_about
from fergen_bench.data.suite import Suite
from fergen_bench.error import BenchError, did_you_mean, explain
from fergen_bench.experiment.method_file import MethodFile, read_method, valid_name
from fergen_bench.experiment.shipped import shipped
from fergen_bench.files import toml as tomlfile
from fergen_bench.files.bounded import is_file_name
from fergen_bench.networks.name import anchored
from fergen_bench.progress import silent

if TYPE_CHECKING:
    from fergen_bench.datasets.settings import DomainSettings
    from fergen_bench.experiment.settings import Settings
    from fergen_bench.progress import Progress

ENTRY_POINTS = "fergen_bench.methods"


def find_project(start: Path | None = None) -> Project:
    """Return the project of a folder.

    Args:
        start: A folder; without it, the working directory.
    """
    here = (start or Path.cwd()).resolve()
    root = next((folder for folder in (here, *here.parents) if (folder / "bench.toml").is_file()), None)
    return Project(root or here, configured=root is not None)


@dataclass(frozen=True)
class Project:
    """A folder with settings, methods, protocols and results.

    Attributes:
        root: The folder.
        configured: True where it contains a bench.toml.
    """

    root: Path
    configured: bool

    @cached_property
    def _toml(self) -> tuple[dict[str, Any], dict[tuple[str, ...], int]]:
        """The unchecked content of bench.toml, and the line of every table and key."""
        return tomlfile.read(self.root / "bench.toml") if self.configured else ({}, {})

    @cached_property
    def settings(self) -> Settings:
        """The checked content of bench.toml.

        Raises:
            BenchError: A key or a value is wrong; the error names its line.
        """
        from pydantic import ValidationError

        from fergen_bench.experiment.settings import Settings, known_keys

        path, (content, lines) = self.root / "bench.toml", self._toml
        try:
            settings = Settings.model_validate(content)
        except ValidationError as error:
            raise BenchError(explain(error, path, lines, known_keys())) from None
        self._check_pretraining(settings)
        for kind, name in (*(("domains", d) for d in settings.domains), *(("suites", s) for s in settings.suites)):
            place = f"{path}:{lines[kind, name]}" if (kind, name) in lines else f"{path}"
            if not valid_name(name):
                raise BenchError(
                    f"{place}: {name!r} cannot be a name; use letters, digits, - and _, and begin with a letter"
                )
            if name in synth.DOMAINS or name in synth.SUITES or (kind == "suites" and name in datasets.SUITES):
                raise BenchError(f"{place}: {name!r} is a name that comes with the package; choose another")
            if kind == "domains" and (asked := settings.domains[name].dataset) is not None:
                datasets.dataset(asked, f"{place}: domains.{name}.dataset")
            for domain in settings.suites[name].domains if kind == "suites" else ():
                if not valid_name(domain):
                    raise BenchError(f"{place}: suites.{name}: {domain!r} cannot be the name of a domain")
        return settings

    def _check_pretraining(self, settings: Settings) -> None:
        """Raise for a declaration with a name that is neither a dataset nor a known collection of pictures."""
        if not settings.pretraining:
            return
        from fergen_bench.datasets.pretraining import known_names

        path, (_, lines) = self.root / "bench.toml", self._toml
        for weights, stated in settings.pretraining.items():
            for name in stated:
                if name not in known_names():
                    line = lines.get(("pretraining", weights))
                    raise BenchError(
                        f"{path}{'' if line is None else f':{line}'}: pretraining: {name!r} is neither a dataset nor a "
                        f"known collection of pictures{did_you_mean(name, known_names())} See: docs/report.md"
                    )

    def names(self) -> dict[str, list[str]]:
        """Return the names of methods, protocols, suites and domains, reading no file but bench.toml, unchecked."""
        own = {
            kind: table if isinstance(table := self._toml[0].get(kind), dict) else {} for kind in ("suites", "domains")
        }
        return {
            "methods": sorted(self.methods()),
            "protocols": sorted(self.protocols()),
            "suites": [*synth.SUITES, *datasets.SUITES, *own["suites"]],
            "domains": list(dict.fromkeys((*synth.DOMAINS, *own["domains"], *self.prepared_here(), *datasets.NAMED))),
        }

    @property
    def results(self) -> Path:
        """The folder of records, reports and the MLflow database."""
        return self.root / self.settings.results.expanduser()

    @property
    def cache(self) -> Path:
        """The folder of prepared domains and stored features."""
        return self.root / self.settings.cache.expanduser()

    @property
    def data(self) -> Path:
        """The folder of `fergen-bench data prepare`, which contains the domains without a table."""
        return self.root / "data"

    def prepared_here(self) -> list[str]:
        """Return the domains in the folder of `fergen-bench data prepare`, which need no table."""
        return sorted(folder.name for folder in self.data.glob("[!.]*/") if is_prepared(folder))

    def scored_parts(self, domain: str) -> dict[str, Any]:
        """Return what `Run.scored_part` reads of a domain.json: the part that each split profile scores.

        The prepared copy has this table of its dataset too, but may be missing on this machine.

        Args:
            domain: Name of the domain.
        """
        return {"scored": datasets.dataset(self.dataset_of(domain), domain).scored}

    def audit_folder(self, suite: Suite) -> Path:
        """Return the folder of the audit report of a suite."""
        return self.results / "audit" / suite.name

    @property
    def comparisons(self) -> Path:
        """The folder of stored comparisons, which list the near-duplicates of two domains."""
        return self.results / "comparisons"

    @property
    def sketches(self) -> Path:
        """The folder of sketches, which comparisons compute from the images of a domain."""
        return self.cache / "sketches"

    # ---------------------------------------------------------------------------------------------------------- methods

    @cached_property
    def _installed(self) -> dict[str, Path]:
        """The methods of installed packages, collected once: the search reads the metadata of every package."""
        return dict(_installed_methods())

    def methods(self) -> dict[str, Path]:
        """Return every method file by name: the project's own precede shipped ones, which precede installed ones."""
        found = dict(self._installed)
        for folder in (shipped("methods"), self.root / "methods"):
            found |= {path.stem: path for path in sorted(folder.glob("[!._]*.py"))}
        return found

    def method(self, name: str) -> MethodFile:
        """Read the file of a method.

        Raises:
            BenchError: The method does not exist, or its file is wrong.
        """
        known = self.methods()
        if name not in known:
            raise BenchError(
                f"no method {name!r} in {self.root / 'methods'} or the shipped ones"
                f"{_other_ending(self.root / 'methods', name, '.py') or did_you_mean(name, known)} "
                f"See: fergen-bench list"
            )
        if not is_file_name(name):
            raise BenchError(
                f"{known[name]}: {name!r} cannot be the name of a method, because file names of records contain it"
            )
        return read_method(known[name], name)

    # -------------------------------------------------------------------------------------------------------- protocols

    def protocols(self) -> dict[str, Path]:
        """Return every protocol file by name; the project's own precede shipped ones."""
        folders = (shipped("protocols"), self.root / "protocols")
        return {path.stem: path for folder in folders for path in _protocol_files(folder)}

    def protocol_path(self, name: str) -> Path:
        """Return the file of a protocol.

        Raises:
            BenchError: The protocol does not exist, or two files have its name.
        """
        known = self.protocols()
        if name not in known:
            raise BenchError(
                f"no protocol {name!r} in {self.root / 'protocols'} or the shipped ones"
                f"{_other_ending(self.root / 'protocols', name, '.yaml') or did_you_mean(name, known)} "
                f"See: fergen-bench list"
            )
        path = known[name]
        twice = [other for other in _protocol_files(path.parent) if other.stem == name and other != path]
        if twice:
            raise BenchError(f"{path}: {twice[0].name} has the same name; remove one of them")
        return path

    # ----------------------------------------------------------------------------------------------- suites and domains

    def suites(self) -> dict[str, Suite]:
        """Return every suite by name: embedded, shipped, and those of bench.toml."""
        own = {
            name: Suite(
                name,
                tuple(suite.domains),
                backbone=anchored(suite.backbone, self.root),
                trunk=anchored(suite.trunk, self.root),
                recipe=suite.recipe,
                profile=suite.profile,
                overlaps=frozenset(
                    (
                        *(frozenset(pair) for pair in suite.overlaps),
                        *datasets.overlaps({domain: self.dataset_of(domain) for domain in suite.domains}),
                    )
                ),
                about=suite.about,
            )
            for name, suite in self.settings.suites.items()
        }
        return {**synth.SUITES, **datasets.SUITES, **own}

    def dataset_of(self, domain: str) -> str:
        """Return the dataset of a domain: from table, name or prepared copy, in this order, or folder."""
        table = self.settings.domains.get(domain)
        if table is not None and table.dataset is not None:
            return table.dataset
        if domain in datasets.NAMES:
            return domain
        made_of = self._about(domain).get("dataset")
        return made_of if made_of in datasets.NAMES else "folder"

    def extent_of(self, domain: str) -> tuple[int, int]:
        """Return the number of expressions and of faces of a domain, or zeros where it is not prepared by hand."""
        splits = self._about(domain).get("counts", {}).values()
        classes = {name for counts in splits for name, count in counts.items() if count}
        return len(classes), sum(sum(counts.values()) for counts in splits)

    def _about(self, domain: str) -> dict[str, Any]:
        """Return the content of domain.json of a folder that is prepared by hand, or nothing where there is none."""
        table = self.settings.domains.get(domain)
        place = self.data / domain if table is None else self._anchored(table.path)
        try:
            return read_about(place) if is_prepared(place) else {}
        except BenchError:
            return {}  # using the domain raises the full error

    def domain_settings(self, domain: str) -> DomainSettings:
        """Return the table of a domain with absolute paths."""
        table = self.settings.domains[domain]
        paths = {"path": self._anchored(table.path)}
        if table.images is not None:
            paths["images"] = self._anchored(table.images)
        return table.model_copy(update=paths)

    def _anchored(self, path: Path) -> Path:
        return self.root / path.expanduser()

    def suite(self, name: str) -> Suite:
        """Return a suite by name.

        Raises:
            BenchError: The suite, one of its domains or its profile does not exist.
        """
        known = self.suites()
        if name not in known:
            raise BenchError(f"no suite {name!r}{did_you_mean(name, known)} See: fergen-bench list")
        for domain in known[name].domains if name in self.settings.suites else ():
            if domain not in self.settings.domains and not is_prepared(self.data / domain):
                place = self.root / "bench.toml"
                raise BenchError(
                    f"{place}: suites.{name}: there is no table [domains.{domain}], nor a prepared {self.data / domain}"
                    f"{did_you_mean(domain, [*self.settings.domains, *self.prepared_here()])}"
                )
        if known[name].profile != "official":
            self._check_profile(known[name])
        return known[name]

    def _check_profile(self, suite: Suite) -> None:
        """Raise for a profile of none of the datasets: it would score the images of official under another name."""
        kinds = (datasets.dataset(self.dataset_of(domain), domain) for domain in suite.domains)
        profiles = {"official", *(profile for kind in kinds for profile in kind.scored)}
        if suite.profile not in profiles:
            raise BenchError(
                f"{self.root / 'bench.toml'}: suites.{suite.name}.profile: none of its datasets has a profile "
                f"{suite.profile!r}"
                f"{did_you_mean(suite.profile, profiles)}"
            )

    def prepared(self, suite: Suite, domains: Iterable[str], progress: Progress | None = None) -> dict[str, Path]:
        """Return the prepared folders of some domains, after preparing the missing ones in the cache.

        Args:
            suite: The suite.
            domains: Names of domains.
            progress: Receives the progress of preparation.

        Raises:
            BenchError: A domain is not configured or cannot be read.
        """
        from filelock import FileLock

        folders = {domain: self._folder(suite, domain) for domain in domains}
        missing = {domain: folder for domain, folder in folders.items() if not is_prepared(folder)}
        if missing:
            place = self.cache / "domains"
            place.mkdir(parents=True, exist_ok=True)
            with FileLock(place / ".lock"):
                # Another process may have prepared them meanwhile.
                missing = {domain: folder for domain, folder in missing.items() if not is_prepared(folder)}
                self._prepare(suite, missing, progress or silent)
        return folders

    def is_prepared(self, suite: Suite, domains: Iterable[str]) -> bool:
        """Return True where all of some domains are prepared."""
        return all(is_prepared(self._folder(suite, domain)) for domain in domains)

    def require_copies(self, suite: Suite, domains: Iterable[str]) -> None:
        """Raise where the copy of a domain that is to be prepared is missing or empty; its files are not read.

        Raises:
            BenchError: A domain is not configured, or its copy does not exist or is an empty folder.
        """
        for domain in () if suite.synthetic else domains:
            if not is_prepared(self._folder(suite, domain)):
                path = self.domain_settings(domain).path
                if path.is_dir() and not any(path.iterdir()):
                    place = self.root / "bench.toml"
                    raise BenchError(f"{place}: domains.{domain}.path: {path} is empty; put the images there")

    def _folder(self, suite: Suite, domain: str) -> Path:
        """Return the folder of a prepared domain, which may not exist yet."""
        if suite.synthetic:
            return self.cache / "domains" / f"{suite.name}-v{synth.VERSION}" / domain
        settings = self.settings.domains.get(domain)
        if settings is None:
            if is_prepared(self.data / domain):
                return self.data / domain
            raise BenchError(
                f"the suite {suite.name} needs {domain}, and there is no {self.data / domain} yet; make it with: "
                f"fergen-bench data prepare {domain} PATH. Or name what you have: run with --sources and --targets, "
                f"data audit with --domains"
            )
        path = self._anchored(settings.path)
        if is_prepared(path):
            self._refuse_idle(domain, path)
            return path
        if not path.exists():
            raise BenchError(f"{self.root / 'bench.toml'}: domains.{domain}.path: there is no {path}")
        from fergen_bench.datasets.copies import copy_digest

        kind = datasets.dataset(self.dataset_of(domain), domain)
        return self.cache / "domains" / f"{domain}-{copy_digest(kind, self.domain_settings(domain))}"

    def _refuse_idle(self, domain: str, folder: Path) -> None:
        """Raise for reading options of a domain that was prepared with other ones."""
        table, about = self.settings.domains[domain], read_about(folder)
        made = {**type(table)(path=folder).model_dump(), **about, "size": about["size"][0]}
        for key in sorted(table.model_fields_set - {"path", "dataset"}):
            if getattr(table, key) != made[key]:
                raise BenchError(
                    f"{self.root / 'bench.toml'}: domains.{domain}.{key} would do nothing: {folder} is prepared "
                    f"already, with another value; remove the key, or set path to the original dataset"
                )

    def _prepare(self, suite: Suite, missing: Mapping[str, Path], progress: Progress) -> None:
        if suite.synthetic:
            from fergen_bench.synth.prepare import prepare

            prepare(
                suite.name, missing, available_cores(), lambda d, done, all_: progress(f"rendering {d}", done, all_)
            )
            return
        from fergen_bench.datasets.prepare import prepare_dataset

        for domain, folder in missing.items():
            settings = self.domain_settings(domain)
            kind = datasets.dataset(self.dataset_of(domain), domain)
            prepare_dataset(domain, kind, settings, folder, available_cores(), partial(progress, f"preparing {domain}"))


def _protocol_files(folder: Path) -> list[Path]:
    """Return the protocol files of a folder, sorted by name."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in {".yaml", ".yml"} and path.name[0] != ".")


def _other_ending(folder: Path, name: str, ending: str) -> str:
    """Return the end of a sentence that names a file of this name with another ending, or nothing where none is."""
    others = sorted(folder.iterdir()) if folder.is_dir() else []
    found = next((path for path in others if path.name.split(".")[0] == name and path.is_file()), None)
    return f"; {found.name} is there: rename it to {name}{ending}." if found is not None else ""


def available_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _installed_methods() -> Iterator[tuple[str, Path]]:
    """Yield name and file of every method of installed packages, without imports; missing files are skipped."""
    from importlib.metadata import entry_points
    from importlib.util import find_spec

    for entry in entry_points(group=ENTRY_POINTS):
        top, *inside = entry.module.split(".")
        spec = find_spec(top)
        for folder in spec.submodule_search_locations or [] if spec else []:
            place = Path(folder, *inside)
            yield from (
                (entry.name, path) for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()
            )

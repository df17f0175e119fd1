"""Measure how well facial-expression methods generalise to unseen domains, and compare them fairly.

From Python:

    import fergen_bench as fb

    results = fb.run(methods=["cafe", "linear_probe"], suite="synth5", seeds=[0])
    results.leaderboard()

Method files import their base classes and types from here too. Names load on first use: importing this package loads
neither torch, pandas nor a plotting backend.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fergen_bench.api.catalogue import list_domains as list_domains
    from fergen_bench.api.catalogue import list_methods as list_methods
    from fergen_bench.api.catalogue import list_protocols as list_protocols
    from fergen_bench.api.catalogue import list_suites as list_suites
    from fergen_bench.api.data import prepare as prepare
    from fergen_bench.api.evaluate import Evaluation as Evaluation
    from fergen_bench.api.evaluate import evaluate as evaluate
    from fergen_bench.api.evaluate_options import EvaluateOptions as EvaluateOptions
    from fergen_bench.api.export import export as export
    from fergen_bench.api.filtering import RecordFilter as RecordFilter
    from fergen_bench.api.opened import OpenRun as OpenRun
    from fergen_bench.api.opened import OpenSuite as OpenSuite
    from fergen_bench.api.opened import open_run as open_run
    from fergen_bench.api.opened import suite as suite
    from fergen_bench.api.options import RunOptions as RunOptions
    from fergen_bench.api.predict import predict as predict
    from fergen_bench.api.report import report as report
    from fergen_bench.api.results import Results as Results
    from fergen_bench.api.results import load_results as load_results
    from fergen_bench.api.run import run as run
    from fergen_bench.api.site import site as site
    from fergen_bench.data.domain import Split as Split
    from fergen_bench.data.labels import EXPRESSIONS as EXPRESSIONS
    from fergen_bench.data.source import Source as Source
    from fergen_bench.error import BenchError as BenchError
    from fergen_bench.experiment.parameter_types import Backbone as Backbone
    from fergen_bench.experiment.parameter_types import File as File
    from fergen_bench.experiment.parameter_types import Trunk as Trunk
    from fergen_bench.networks.network import Network as Network
    from fergen_bench.networks.network import Preprocessing as Preprocessing
    from fergen_bench.networks.prompts import PROMPT_TEMPLATES as PROMPT_TEMPLATES
    from fergen_bench.networks.prompts import prompt_names as prompt_names
    from fergen_bench.networks.text import TextTower as TextTower
    from fergen_bench.networks.weights_file import load_weights as load_weights
    from fergen_bench.networks.weights_file import read_weights as read_weights
    from fergen_bench.training.adversary import AdversarialMethod as AdversarialMethod
    from fergen_bench.training.augment import SampleDraws as SampleDraws
    from fergen_bench.training.contract import Context as Context
    from fergen_bench.training.contract import Method as Method
    from fergen_bench.training.domains import Domains as Domains
    from fergen_bench.training.graph import Batch as Batch
    from fergen_bench.training.images import Rows as Rows
    from fergen_bench.training.loop import GradientMethod as GradientMethod
    from fergen_bench.training.loop import Inputs as Inputs
    from fergen_bench.training.loop import Losses as Losses
    from fergen_bench.training.online import OnlineMethod as OnlineMethod
    from fergen_bench.training.trunk import AlignmentMethod as AlignmentMethod
    from fergen_bench.training.trunk import AttentionMethod as AttentionMethod
    from fergen_bench.training.trunk import DomainMethod as DomainMethod
    from fergen_bench.training.trunk import NetworkMethod as NetworkMethod
    from fergen_bench.training.trunk import TrunkMethod as TrunkMethod

_API = {
    "run": "api.run",
    "RunOptions": "api.options",
    "RecordFilter": "api.filtering",
    "evaluate": "api.evaluate",
    "Evaluation": "api.evaluate",
    "EvaluateOptions": "api.evaluate_options",
    "load_results": "api.results",
    "Results": "api.results",
    "report": "api.report",
    "site": "api.site",
    "export": "api.export",
    "predict": "api.predict",
    "prepare": "api.data",
    "open_run": "api.opened",
    "OpenRun": "api.opened",
    "suite": "api.opened",
    "OpenSuite": "api.opened",
    "list_methods": "api.catalogue",
    "list_protocols": "api.catalogue",
    "list_suites": "api.catalogue",
    "list_domains": "api.catalogue",
    "BenchError": "error",
}
"""The names for notebooks and scripts, and the module of each."""

_FOR_METHODS = {
    "Split": "data.domain",
    "EXPRESSIONS": "data.labels",
    "Source": "data.source",
    "BenchError": "error",
    "Backbone": "experiment.parameter_types",
    "File": "experiment.parameter_types",
    "Trunk": "experiment.parameter_types",
    "Network": "networks.network",
    "Preprocessing": "networks.network",
    "PROMPT_TEMPLATES": "networks.prompts",
    "prompt_names": "networks.prompts",
    "TextTower": "networks.text",
    "load_weights": "networks.weights_file",
    "read_weights": "networks.weights_file",
    "AdversarialMethod": "training.adversary",
    "SampleDraws": "training.augment",
    "Context": "training.contract",
    "Method": "training.contract",
    "Domains": "training.domains",
    "Batch": "training.graph",
    "Rows": "training.images",
    "GradientMethod": "training.loop",
    "Inputs": "training.loop",
    "Losses": "training.loop",
    "OnlineMethod": "training.online",
    "AlignmentMethod": "training.trunk",
    "AttentionMethod": "training.trunk",
    "DomainMethod": "training.trunk",
    "NetworkMethod": "training.trunk",
    "TrunkMethod": "training.trunk",
}
"""The names for method files, and the module of each."""

_HOME = {**_API, **_FOR_METHODS}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return [name for name in sorted({*globals(), *__all__}) if name.startswith("__") or name in _HOME]


class _Package(ModuleType):
    """The type of this package, whose subpackage `report` can be called like the function of that name."""

    @property
    def report(self) -> Any:
        """The subpackage. Importing it calls the setter."""
        return import_module(f"{__name__}.report")

    @report.setter
    def report(self, module: ModuleType) -> None:
        module.__class__ = _Report


class _Report(ModuleType):
    """Make the package `report` callable, so that `fb.report(results)` and `import fergen_bench.report.x` work."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self.__wrapped__(*arguments, **options)

    @property
    def __wrapped__(self) -> Any:
        """The function, whose signature `help` and notebooks show."""
        return import_module(f"{__name__}.api.report").report


sys.modules[__name__].__class__ = _Package

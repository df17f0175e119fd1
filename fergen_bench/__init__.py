"""fergen-bench: how good is a facial-expression method on domains it never saw, compared fairly with everything else.

The public names for method files, loaded only when asked for:

    from fergen_bench import TrunkMethod, GradientMethod, Context, Batch, Source, Backbone, Trunk
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fergen_bench.data.domain import Split as Split
    from fergen_bench.data.labels import EXPRESSIONS as EXPRESSIONS
    from fergen_bench.data.source import Source as Source
    from fergen_bench.error import BenchError as BenchError
    from fergen_bench.experiment.method_file import Backbone as Backbone
    from fergen_bench.experiment.method_file import File as File
    from fergen_bench.experiment.method_file import Trunk as Trunk
    from fergen_bench.networks.network import Network as Network
    from fergen_bench.networks.prompts import PROMPT_TEMPLATES as PROMPT_TEMPLATES
    from fergen_bench.networks.prompts import prompt_names as prompt_names
    from fergen_bench.networks.text import TextTower as TextTower
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
    from fergen_bench.training.trunk import AlignmentMethod as AlignmentMethod
    from fergen_bench.training.trunk import AttentionMethod as AttentionMethod
    from fergen_bench.training.trunk import DomainMethod as DomainMethod
    from fergen_bench.training.trunk import NetworkMethod as NetworkMethod
    from fergen_bench.training.trunk import TrunkMethod as TrunkMethod

_HOME = {
    "Split": "data.domain",
    "EXPRESSIONS": "data.labels",
    "Source": "data.source",
    "BenchError": "error",
    "Backbone": "experiment.method_file",
    "File": "experiment.method_file",
    "Trunk": "experiment.method_file",
    "Network": "networks.network",
    "PROMPT_TEMPLATES": "networks.prompts",
    "prompt_names": "networks.prompts",
    "TextTower": "networks.text",
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
    "AlignmentMethod": "training.trunk",
    "AttentionMethod": "training.trunk",
    "DomainMethod": "training.trunk",
    "NetworkMethod": "training.trunk",
    "TrunkMethod": "training.trunk",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)

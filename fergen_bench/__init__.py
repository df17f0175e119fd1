"""fergen-bench: how good is a facial-expression method on domains it never saw, compared fairly with everything else.

The public names for method files, loaded only when asked for:

    from fergen_bench import TrunkMethod, GradientMethod, Context, Batch, Source, Backbone, Trunk
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fergen_bench.adversary import AdversarialMethod as AdversarialMethod
    from fergen_bench.augment import SampleDraws as SampleDraws
    from fergen_bench.backbone import Network as Network
    from fergen_bench.backbone import TextTower as TextTower
    from fergen_bench.domain import EXPRESSIONS as EXPRESSIONS
    from fergen_bench.domain import Source as Source
    from fergen_bench.domain import Split as Split
    from fergen_bench.error import BenchError as BenchError
    from fergen_bench.method import Context as Context
    from fergen_bench.method import Domains as Domains
    from fergen_bench.method import GradientMethod as GradientMethod
    from fergen_bench.method import Inputs as Inputs
    from fergen_bench.method import Losses as Losses
    from fergen_bench.method import Method as Method
    from fergen_bench.method import Rows as Rows
    from fergen_bench.plugin import Backbone as Backbone
    from fergen_bench.plugin import File as File
    from fergen_bench.plugin import Trunk as Trunk
    from fergen_bench.prompts import PROMPT_TEMPLATES as PROMPT_TEMPLATES
    from fergen_bench.prompts import prompt_names as prompt_names
    from fergen_bench.steps import Batch as Batch
    from fergen_bench.trunk import DomainMethod as DomainMethod
    from fergen_bench.trunk import TrunkMethod as TrunkMethod

_HOME = {
    "AdversarialMethod": "adversary",
    "SampleDraws": "augment",
    "Network": "backbone",
    "TextTower": "backbone",
    "EXPRESSIONS": "domain",
    "Source": "domain",
    "Split": "domain",
    "BenchError": "error",
    "Context": "method",
    "Domains": "method",
    "GradientMethod": "method",
    "Inputs": "method",
    "Losses": "method",
    "Method": "method",
    "Rows": "method",
    "Backbone": "plugin",
    "File": "plugin",
    "Trunk": "plugin",
    "PROMPT_TEMPLATES": "prompts",
    "prompt_names": "prompts",
    "Batch": "steps",
    "DomainMethod": "trunk",
    "TrunkMethod": "trunk",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)

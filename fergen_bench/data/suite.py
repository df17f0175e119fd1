"""A suite: the domains that are compared, and the networks that methods use on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Suite:
    """A fixed set of domains in a fixed order, with the default networks and recipe of methods on them.

    Attributes:
        name: The name of the suite.
        domains: The names of its domains, in the order of tables.
        backbone: The default frozen network.
        trunk: The default network to train.
        recipe: The recipe whose values replace the defaults of methods.
        profile: The split profile, which decides which images of a target are scored.
        synthetic: Its images are rendered.
        overlaps: Pairs of domains that share images.
        distinct: The reason why its domains cannot share images, if they need no audit.
        about: One line for lists.
    """

    name: str
    domains: tuple[str, ...]
    backbone: str
    trunk: str
    recipe: str = "default"
    profile: str = "official"
    synthetic: bool = False
    overlaps: frozenset[frozenset[str]] = field(default_factory=frozenset)
    distinct: str = ""
    about: str = ""

    def relation(self, sources: Sequence[str], target: str) -> str:
        """Return "source", "seen" (the target shares images with a source) or "unseen"."""
        if target in sources:
            return "source"
        return "seen" if any(frozenset((source, target)) in self.overlaps for source in sources) else "unseen"

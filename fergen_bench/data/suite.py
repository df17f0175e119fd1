"""A suite: the domains of one question, and the networks that its methods use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Suite:
    """A fixed exam: ordered domains with one label space, and the networks and the recipe that methods use on it by
    default.
    """

    name: str
    domains: tuple[str, ...]
    backbone: str
    trunk: str
    recipe: str = "default"
    profile: str = "official"
    synthetic: bool = False
    overlaps: frozenset[frozenset[str]] = field(default_factory=frozenset)  # pairs of domains that share images
    distinct: str = ""  # why no two of its domains can share an image, where that needs no audit
    about: str = ""

    def relation(self, sources: Sequence[str], target: str) -> str:
        """ "source", "seen" (shares images with a source) or "unseen"."""
        if target in sources:
            return "source"
        return "seen" if any(frozenset((source, target)) in self.overlaps for source in sources) else "unseen"

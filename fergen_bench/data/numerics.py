"""The version of the numerics that all methods share."""

from __future__ import annotations

NUMERICS = 2
"""Raised when the numbers of runs change although no method, network or domain does.

It covers the training loop that `GradientMethod` provides (batches, optimiser, selection of an epoch), augmentation,
the named random streams, corruptions, the division of a source, and the extraction of features. It is part of the key
of a run. Each change stands under *Numbers* in CHANGELOG.md. Records written before this version existed have
numerics 1.
"""

"""Submissions: results in one file with the method files that made them, to be checked and repeated elsewhere."""

TOLERANCE = 2.0
"""Points by which a cell may differ on another kind of processor. docs/synth5.md has measured differences."""

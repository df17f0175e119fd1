"""Submissions: results in one file with the method files that made them, to be checked and repeated elsewhere."""

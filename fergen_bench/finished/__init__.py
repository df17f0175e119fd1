"""Finished models and files of predictions: open them, find their convention, and score them without any training."""

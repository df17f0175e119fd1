"""Sentences about expressions for a text tower: the templates and names of CLIP's release for FER2013.

Source: github.com/openai/CLIP, data/prompts.md. The release does not describe how several names of one class are
merged; the mean over all names and templates is the natural reading. The option `one` takes the first name of each
class; these are the names of github.com/LAION-AI/CLIP_benchmark.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from fergen_bench.data.labels import EXPRESSIONS

PROMPT_TEMPLATES = (
    "a photo of a {} looking face.",
    "a photo of a face showing the emotion: {}.",
    "a photo of a face looking {}.",
    "a face that looks {}.",
    "they look {}.",
    "look at how {} they are.",
)

_NAMES: Mapping[str, tuple[str, ...]] = {
    "surprise": ("surprised", "shocked", "spooked"),
    "fear": ("fearful",),
    "disgust": ("disgusted",),
    "happiness": ("happy", "smiling"),
    "sadness": ("sad", "depressed"),
    "anger": ("angry",),
    "neutral": ("neutral", "bored"),
}


def prompt_names(names: Literal["several", "one"] = "several") -> tuple[tuple[str, ...], ...]:
    """Return the names of each expression, in the order of EXPRESSIONS: all of them, or only the first."""
    return tuple(_NAMES[expression][: None if names == "several" else 1] for expression in EXPRESSIONS)

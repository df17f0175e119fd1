"""What the parts of CAFE do: its ablation, its recall by expression, its masks."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pandas as pd
from finding import REFERENCE, ROOT, Finding, differences, forest, forest_of, paired_seeds, signed

import fergen_bench as fb
from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.report.canvas import blank, sns, styled
from fergen_bench.report.comparison import range_text
from fergen_bench.report.rounding import tenth
from fergen_bench.wording import listed

ABLATION = {
    "cafe (gate=none)": "no mask",
    "cafe (gate=linear)": "no sigmoid",
    "cafe (gate=softmax)": "softmax mask",
    "cafe (gate=tanh)": "tanh mask",
    "cafe (separation=0.0)": "no separation",
    "cafe (diversity=0.0)": "no diversity",
    "cafe (diversity_form=distinct)": "diversity as meant",
    "cafe (separation=0.0, diversity=0.0)": "mask only",
    "cafe (head=channel)": "channel head",
    "cafe (groups=even)": "all channels grouped",
    "cafe (statistics=imagenet)": "ImageNet statistics",
    "cafe (features=cached)": "cached features",
}


FAR = 10.0
"""Points beyond which a difference is left out of the figure, whose scale it would decide."""


def ablation(results: fb.Results) -> Finding | None:
    """What does each part of CAFE buy?"""
    found = differences(results, "cafe", list(ABLATION))
    if not found:
        return None
    drops = [ABLATION[name] for name, one in found.items() if one.interval[1] < 0]
    gains = [ABLATION[name] for name, one in found.items() if one.interval[0] > 0]
    equal = [ABLATION[name] for name in found if ABLATION[name] not in {*drops, *gains}]
    parts = [
        f"{text} {', '.join(names)}"
        for text, names in (
            ("these changes cost accuracy:", drops),
            ("these gain:", gains),
            ("these make no significant difference:", equal),
        )
        if names
    ]
    once = [ABLATION[name] for name, one in found.items() if np.isnan(one.p)]
    limit = ", for the trainings of one seed" if len(once) == len(found) else ""
    sizes, paper = {ABLATION[name]: one for name, one in found.items()}, published()
    answer = f"On synth5{limit}, {'; '.join(parts)}."
    if once and not limit:
        answer += f" With one seed, so for these trainings alone: {', '.join(once)}."
    if "no mask" in sizes:
        one = sizes["no mask"]
        answer += (
            f" Without the mask, CAFE changes by {tenth(one.difference, signed=True)} points (95 %: "
            f"{range_text(*one.interval)}); "
            f"the published ablation on RAF-DB has {tenth(paper['none'])} without the mask and {tenth(paper['full'])} "
            f"with all parts."
        )
    if "channel head" in sizes:
        answer += " The channel head scores the largest channel of each group, without a trained linear layer."
    shown = pd.DataFrame({"variant": list(sizes)})
    shown["difference from CAFE"], shown["95 %"] = signed(sizes)
    shown["seeds"] = paired_seeds(sizes)
    shown["published, trained on RAF-DB"] = [
        tenth(paper[PUBLISHED[name]] - paper["full"], signed=True) if name in PUBLISHED else "—" for name in sizes
    ]
    near = {name: one for name, one in sizes.items() if abs(one.difference) < FAR}
    beyond = f", without {listed(name for name in sizes if name not in near)}" if len(near) < len(sizes) else ""
    return Finding(
        "What does each part of CAFE buy?",
        answer,
        "fergen-bench run --protocol synth5-ablation",
        shown,
        forest_of(near, "difference from CAFE on unseen domains (points)"),
        "findings-ablation",
        f"Difference of each variant from CAFE, with 95 % intervals{beyond}.",
    )


PUBLISHED = {"no mask": "none", "mask only": "mask", "no diversity": "mask+separation"}
"""Variants that the paper's ablation has too, with their names there."""


def published() -> pd.Series:
    """Return the means of the paper's own ablation, trained on RAF-DB, by variant."""
    frame = pd.read_csv(ROOT / "results" / "published" / "cafe_ablation.csv", comment="#")
    return frame.groupby("variant").accuracy.mean()


def expressions(results: fb.Results) -> Finding | None:
    """Which expressions does CAFE gain, and which does it lose?"""
    found = differences(results, "linear_probe", ["cafe"])
    if not found:
        return None
    frame = found["cafe"].expressions.set_index("expression")
    p = frame.p_holm
    verdict = p.notna().all()
    gained = [name for name in EXPRESSIONS if frame.low[name] > 0 and (not verdict or p[name] < 0.05)]
    lost = [name for name in EXPRESSIONS if frame.high[name] < 0 and (not verdict or p[name] < 0.05)]

    def listing(names: Sequence[str]) -> str:
        return ", ".join(f"{name} ({tenth(frame.difference[name], signed=True)})" for name in names) or "no expression"

    strongest = frame.difference.abs().idxmax()
    answer = (
        f"Against the linear probe CAFE gains recall in {listing(gained)} and loses it in {listing(lost)}, on unseen "
        f"domains{' after Holm correction for seven tests' if verdict else ', for these trainings'}; the largest "
        f"difference is {strongest}, {tenth(frame.difference[strongest], signed=True)} points "
        f"(95 %: {range_text(frame.low[strongest], frame.high[strongest])})."
    )
    shown = pd.DataFrame(
        {
            "expression": EXPRESSIONS,
            "linear probe": [tenth(frame["first"][name]) for name in EXPRESSIONS],
            "CAFE": [tenth(frame.second[name]) for name in EXPRESSIONS],
            "difference": [tenth(frame.difference[name], signed=True) for name in EXPRESSIONS],
            "95 %, unadjusted": [range_text(frame.low[name], frame.high[name]) for name in EXPRESSIONS],
        }
    )
    limits = [(frame.low[name], frame.high[name]) for name in EXPRESSIONS]
    return Finding(
        "Which expressions does CAFE gain, and which does it lose?",
        answer,
        "fergen-bench compare linear_probe cafe --records reference",
        shown,
        forest(list(EXPRESSIONS), list(frame.difference), limits, "recall, CAFE minus linear probe (points)"),
        "findings-expressions",
        "Recall on unseen domains, CAFE minus the linear probe, with 95 % intervals.",
    )


def masks(results: fb.Results) -> Finding | None:
    """Do the groups of channels stand for their expressions, and what do masks depend on?"""
    path = REFERENCE / "channels.json"
    if not path.is_file():
        return None
    numbers = json.loads(path.read_text(encoding="utf-8"))
    cafe = numbers["cafe"]
    own = "more than" if cafe["p"] < 0.05 else "not significantly more than"
    one = cafe["correlations"]
    same, domain = (one[name]["mean"] for name in ("same expression, other domain", "other expression, same domain"))
    answer = (
        f"Switching off an expression's group of channels lowers its recall on unseen domains by {cafe['own']:.2f} "
        f"points, {own} "
        f"switching off another group does ({cafe['other']:.2f}; exact p = {cafe['p']:.3f}, {cafe['runs']} runs). "
        f"Masks "
        f"depend on the expression {'more' if same > domain else 'less'} than on the domain: mean masks of one "
        f"expression in "
        f"two domains correlate by {same:.2f}, those of two expressions in one domain by {domain:.2f}."
    )
    if control := numbers.get("cafe (separation=0.0)"):
        answer += (
            f" Trained without the separation loss, the own group costs {control['own']:.2f} points and another "
            f"{control['other']:.2f} (p = {control['p']:.3f})."
        )
    with styled():
        figure = blank(4.6, 3.8, "constrained")
        axes = figure.subplots()
        size = float(np.abs(cafe["lost"]).max())
        heat = {"cmap": "vlag", "vmin": -size, "vmax": size, "annot": True, "fmt": ".1f", "cbar": False}
        sns.heatmap(np.array(cafe["lost"]), xticklabels=EXPRESSIONS, yticklabels=EXPRESSIONS, ax=axes, **heat)
        axes.set_xlabel("expression whose recall is measured")
        axes.set_ylabel("group switched off")
    return Finding(
        "Do the groups of channels stand for their expressions, and what do masks depend on?",
        answer,
        "fergen-bench run --protocol synth5-ablation --keep-models && python benchmarks/channels.py results",
        None,
        figure,
        "findings-channels",
        "Recall lost, in points, by the group of channels that is switched off; the diagonal is the own group.",
    )

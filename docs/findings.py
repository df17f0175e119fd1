"""Write docs/findings.md and its figures from the committed results.

    python docs/findings.py            # write the page
    python docs/findings.py --check    # exit with 1 where the page differs from the results

Every number of the page is computed here from records. A sentence that ranks two rows takes its words from the
interval of their difference, so it cannot contradict the numbers. A question whose runs are missing has no section.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

import fergen_bench as fb
from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.report.canvas import Figure, blank, sns, styled
from fergen_bench.report.comparison import range_text
from fergen_bench.report.rounding import tenth

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "findings.md"
PICTURES = ROOT / "docs" / "pictures"
REFERENCE = ROOT / "results" / "reference"

HEAD = """# Findings

What the committed results answer. All numbers are accuracies in per cent, or differences of them in points, on domains
that a run was not trained on, unless a section says otherwise. Intervals are 95 %; [statistics](statistics.md) explains
them. An interval of runs with one seed covers faces alone: it holds for these trainings, and no verdict follows.
The results are in `results/reference`; `python docs/findings.py` writes this page from them.

**synth5 consists of rendered faces.** What holds there need not hold on photographs: see [what is not
known](unknown.md).
"""


@dataclass(frozen=True)
class Finding:
    """A section of the page.

    Attributes:
        question: The heading.
        answer: The first paragraph; its first sentence is the answer.
        command: The command that repeats the runs.
        table: A table below the answer, or None.
        figure: A figure, or None.
        name: The file name of the figure, without its ending.
        caption: What the figure shows.
    """

    question: str
    answer: str
    command: str
    table: pd.DataFrame | None = None
    figure: Figure | None = None
    name: str = ""
    caption: str = ""


Section = Callable[[fb.Results], Finding | None]


# ---------------------------------------------------------------------------------------------------------------- words


def apart(second: str, first: str, compared: fb.Compared) -> str:
    """Return a sentence without its full stop: where the second row stands against the first, by their interval."""
    low, high = compared.interval
    size = f"{tenth(abs(compared.difference))} points"
    if np.isnan(low):
        return f"{second} differs from {first} by {tenth(compared.difference, signed=True)} points"
    one_seed = ", for these trainings" if np.isnan(compared.p) else ""
    if low > 0 or high < 0:
        word = "above" if low > 0 else "below"
        return f"{second} is {size} {word} {first} (95 %: {range_text(low, high)}{one_seed})"
    return (
        f"{second} is not significantly different from {first} "
        f"({tenth(compared.difference, signed=True)} points, 95 %: {range_text(low, high)}{one_seed})"
    )


def rows(results: fb.Results, names: Sequence[str], **conditions: object) -> pd.DataFrame:
    """Return the rows of leaderboards with these names, in this order, indexed by name; without those that are missing.

    Args:
        results: The results.
        names: Names of rows, as tables have them.
        **conditions: Values of columns, such as fraction="50%".
    """
    frame = results.leaderboard()
    for column, value in conditions.items():
        frame = frame[frame[column] == value]
    frame = frame[frame.unseen.notna()].drop_duplicates("method").set_index("method")
    return frame.loc[[name for name in names if name in frame.index]]


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the columns of a table from rows of leaderboards, as text."""
    spread = [f"{tenth(low)} to {tenth(high)}" for low, high in zip(frame.unseen_low, frame.unseen_high, strict=True)]
    return pd.DataFrame(
        {
            "row": frame.index,
            "unseen": [tenth(value) for value in frame.unseen],
            "95 %": spread,
            "standing": list(frame.standing),
            "in-domain": [tenth(value) for value in frame.in_domain],
            "worst unseen": [tenth(value) for value in frame.worst],
            "seeds": [str(value) for value in frame.seeds],
        }
    )


def differences(results: fb.Results, first: str, others: Sequence[str]) -> dict[str, fb.Compared]:
    """Return the comparisons of rows with one row, without the rows that are missing."""
    there = set(results.leaderboard().method)
    return {name: results.compare(first, name) for name in others if name in there and name != first}


def forest(names: Sequence[str], values: Sequence[float], limits: Sequence[tuple[float, float]], label: str) -> Figure:
    """Draw values with their intervals, one line each, the first on top; a line at 0 if they are differences."""
    with styled():
        figure = blank(6.4, 0.7 + 0.22 * len(names), "constrained")
        axes = figure.subplots()
        for place, (value, (low, high)) in enumerate(zip(values, limits, strict=True)):
            axes.plot([low, high], [place, place], color="#555555", lw=1.2)
            axes.plot([value], [place], "o", color="#0072b2", ms=4)
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set_xlabel(label)
        if min(low for low, _ in limits) < 0 < max(high for _, high in limits):
            axes.axvline(0, color="#999999", lw=0.8, zorder=0)
        sns.despine(figure)
    return figure


# ------------------------------------------------------------------------------------------------------------- sections

BASE = "synth5-all"
TRUNK = "full_finetune (learning_rate=0.004, backbone=synth-trunk)"


def fair(results: fb.Results) -> Finding | None:
    """Which method is best under equal conditions?"""
    results = results.filtered(protocol=BASE)
    names = [row.name for view in results.views() if not view.board.adaptation for row in view.rows]
    frame = rows(results, [name for name in names if not changed(name)], fraction=0.5)
    if "cafe" not in frame.index:
        return None
    best = frame.index[0]
    tied = [name for name in frame.index[1:] if frame.standing[name] == "tied"]
    others = f"not significantly different: {', '.join(tied)}" if tied else "every row with as many seeds is behind it"
    if frame.standing[best] == "not compared":
        others = f"95 %: {tenth(frame.unseen_low[best])} to {tenth(frame.unseen_high[best])}, one seed"
    answer = f"{best} has the highest mean, {tenth(frame.unseen[best])} ({others})."
    if (pair := differences(results, "linear_probe", ["cafe"])) and best != "cafe":
        answer += f" {apart('CAFE', 'the linear probe on the same frozen features', pair['cafe'])}."
    trunk = [name for name in frame.index if frame.pretraining[name].startswith("synth-trunk")]
    if TRUNK in trunk:
        top = frame.unseen[[name for name in trunk if name != TRUNK]].idxmax()
        answer += (
            f" Rows that classify features of the frozen encoder have {tenth(frame.unseen[frozen(frame)].min())} or "
            f"more; plain fine-tuning of the trunk has {tenth(frame.unseen[TRUNK])}, and of the other rows that train "
            f"the trunk {top} has the most, {tenth(frame.unseen[top])}."
        )
    limits = list(zip(frame.unseen_low, frame.unseen_high, strict=True))
    return Finding(
        "Which method generalises best on synth5?",
        answer,
        f"fergen-bench run --protocol {BASE}",
        table(frame),
        forest(list(frame.index), list(frame.unseen), limits, "accuracy on unseen domains (%)"),
        "findings-fair",
        "Mean accuracy on unseen domains and its 95 % interval; half of the training faces, source validation.",
    )


def changed(name: str) -> bool:
    """Return True for rows of other questions: rows with changed parameters that are not those of the fair table."""
    return "(" in name and name not in {
        TRUNK,
        "lp_ft (learning_rate=0.001, backbone=synth-trunk)",
        "wise_ft (learning_rate=0.004, backbone=synth-trunk)",
        "dan (turning=0.5)",
        "latent_ofer (turning=0.5)",
    }


def frozen(frame: pd.DataFrame) -> list[str]:
    """Return the rows whose only network is the frozen encoder."""
    alone = {"linear_probe", "even_probe", "nearest_prototype", "knn", "tip_adapter", "clip_adapter"}
    return [name for name in frame.index if name in alone]


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
    one_seed = " One seed: the intervals hold for these trainings." if np.isnan(next(iter(found.values())).p) else ""
    sizes = {ABLATION[name]: one for name, one in found.items()}
    answer = f"On synth5, {'; '.join(parts)}.{one_seed}"
    if "no mask" in sizes:
        one = sizes["no mask"]
        answer += (
            f" Without the mask, CAFE changes by {tenth(one.difference, signed=True)} points (95 %: "
            f"{range_text(*one.interval)}); "
            f"{published_mask()}"
        )
    shown = pd.DataFrame(
        {
            "variant": list(sizes),
            "difference from CAFE": [tenth(one.difference, signed=True) for one in sizes.values()],
            "95 %": [range_text(*one.interval) for one in sizes.values()],
        }
    )
    names, values = list(sizes), [one.difference for one in sizes.values()]
    return Finding(
        "What does each part of CAFE buy?",
        answer,
        "fergen-bench run --protocol synth5-ablation",
        shown,
        forest(
            names, values, [one.interval for one in sizes.values()], "difference from CAFE on unseen domains (points)"
        ),
        "findings-ablation",
        "Difference of each variant from CAFE, with 95 % intervals.",
    )


def published_mask() -> str:
    """Return a sentence on the effect of the mask in the paper's own ablation."""
    frame = pd.read_csv(ROOT / "results" / "published" / "cafe_ablation.csv", comment="#")
    means = frame.groupby("variant").accuracy.mean()
    return (
        f"the published ablation on RAF-DB has {tenth(means['none'])} without the mask and {tenth(means['mask'])} "
        f"with the "
        f"mask alone, {tenth(means['full'])} with all parts."
    )


BASES = {"t3a": "linear_probe", "tent": TRUNK, "sar": TRUNK}


def adaptation(results: fb.Results) -> Finding | None:
    """Do unlabelled images of the target help more than CAFE does?"""
    frame = results.leaderboard()
    adapted = list(frame[frame.adaptation & frame.unseen.notna()].method)
    if not adapted:
        return None
    found = differences(results, "cafe", adapted)
    plain = differences(results, TRUNK, adapted)
    sentences = [apart(name.split(" (")[0], "CAFE", one) for name, one in found.items()]
    answer = f"{'; '.join(sentences)}."
    if plain:
        gains = [apart(name.split(" (")[0], "it", one) for name, one in plain.items()]
        answer += f" Against plain fine-tuning of the same trunk: {'; '.join(gains)}."
    answer += (
        " CDANN needs labels of every domain, so it cannot use unlabelled images. The methods train the trunk, and "
        "CAFE keeps "
        "the encoder's features: most of the difference is the network."
    )
    shown = pd.DataFrame(
        {
            "row": list(found),
            "difference from CAFE": [tenth(one.difference, signed=True) for one in found.values()],
            "95 %": [range_text(*one.interval) for one in found.values()],
        }
    )
    return Finding(
        "Do unlabelled images of the target help more than CAFE?",
        answer,
        "fergen-bench run --protocol synth5-adaptation",
        shown,
    )


def online(results: fb.Results) -> Finding | None:
    """Does it help to adapt to the test images while they are predicted?"""
    frame = results.leaderboard()
    frame = frame[frame.online & frame.unseen.notna()].drop_duplicates("method").set_index("method")
    if frame.empty:
        return None
    found = {name: results.compare(BASES[frame.base_method[name]], name) for name in frame.index}
    plain = [name for name in frame.index if "stream" not in name]
    words = {"linear_probe": "the linear probe", TRUNK: "the fine-tuned trunk"}
    sentences = [
        apart(name.split(" (")[0], f"{words[BASES[frame.base_method[name]]]} that it starts from", found[name])
        for name in plain
    ]
    answer = f"Images in random order, 64 at a time: {'; '.join(sentences)}."
    ordered = [
        f"{name.split(' (')[0]} {tenth(found[name].difference, signed=True)}" for name in found if "sorted" in name
    ]
    if ordered:
        answer += f" If the images come sorted by expression, the differences are: {', '.join(ordered)}."
    shown = pd.DataFrame(
        {
            "row": list(frame.index),
            "unseen": [tenth(value) for value in frame.unseen],
            "difference from its base": [tenth(one.difference, signed=True) for one in found.values()],
            "95 %": [range_text(*one.interval) for one in found.values()],
            "seeds": [str(value) for value in frame.seeds],
        }
    )
    return Finding(
        "Does it help to adapt to test images while they are predicted?",
        answer,
        "fergen-bench run --protocol synth5-online",
        shown,
        forest(
            list(found),
            [one.difference for one in found.values()],
            [one.interval for one in found.values()],
            "adapted minus its base (points)",
        ),
        "findings-online",
        "Difference of each online method from the fitted method that it starts from, with 95 % intervals.",
    )


def several(results: fb.Results) -> Finding | None:
    """Which method makes the best use of several sources?"""
    frame = results.leaderboard()
    frame = frame[(frame.sources > 1) & frame.unseen.notna()].drop_duplicates("method").set_index("method")
    if TRUNK not in frame.index:
        return None
    own = results.filtered(protocol="synth5-sources")
    rivals = [name for name in frame.index if "trunk" in frame.pretraining[name] and name not in (TRUNK, "cafe")]
    found = differences(own, TRUNK, rivals)
    above = [name for name, one in found.items() if one.interval[0] > 0]
    gain = f"{', '.join(above)} {'is' if len(above) == 1 else 'are'}" if above else "none is"
    best = frame.index[0]
    answer = (
        f"{best} has the highest mean on a domain that is left out, {tenth(frame.unseen[best])}. Of the "
        f"{len(found)} other methods that train the trunk {gain} above its plain fine-tuning, "
        f"{tenth(frame.unseen[TRUNK])}, by its interval."
    )
    if pair := differences(own, "linear_probe", ["cafe"]):
        answer += f" {apart('CAFE', 'the linear probe', pair['cafe'])}."
    limits = list(zip(frame.unseen_low, frame.unseen_high, strict=True))
    return Finding(
        "Which method makes the best use of several sources?",
        answer,
        "fergen-bench run --protocol synth5-sources",
        table(frame),
        forest(list(frame.index), list(frame.unseen), limits, "accuracy on the domain left out (%)"),
        "findings-sources",
        "Trained on four domains together, scored on the fifth; a quarter of each domain's training faces.",
    )


def networks(results: fb.Results) -> Finding | None:
    """How much does the frozen network decide?"""
    named = {
        "cafe": "CAFE, face encoder",
        "cafe (backbone=synth-trunk)": "CAFE, face-attribute trunk",
        "cafe (backbone=synth/scratch)": "CAFE, random weights",
        "linear_probe": "linear probe, face encoder",
        "linear_probe (backbone=synth-trunk)": "linear probe, face-attribute trunk",
        "linear_probe (backbone=synth/scratch)": "linear probe, random weights",
    }
    frame = rows(results, list(named), fraction=0.5)
    if len(frame) < len(named):
        return None
    mean = dict(zip((named[name] for name in frame.index), frame.unseen, strict=True))
    network = mean["linear probe, face encoder"] - mean["linear probe, face-attribute trunk"]
    method = mean["CAFE, face encoder"] - mean["linear probe, face encoder"]
    answer = (
        f"The frozen network decides more than the method: between the two packaged networks a linear probe differs by "
        f"{tenth(abs(network))} points, and CAFE differs from the linear probe on the better one by "
        f"{tenth(method, signed=True)}. "
        f"On random weights a linear probe has {tenth(mean['linear probe, random weights'])} and CAFE, which also "
        f"trains a "
        f"trunk, {tenth(mean['CAFE, random weights'])}."
    )
    shown = table(frame.rename(index=named)).drop(columns=["standing", "worst unseen"])
    return Finding(
        "How much does the frozen network decide?", answer, "fergen-bench run --protocol synth5-backbones", shown
    )


def scale(results: fb.Results) -> Finding | None:
    """How much of a source does a method need?"""
    frame = results.leaderboard()
    wanted = ["cafe", "linear_probe", "full_finetune", *OWN]
    frame = frame[frame.method.isin(wanted) & (frame.selection == "source-val") & ~frame.adaptation]
    curves = {name: part.set_index("fraction").sort_index() for name, part in frame.groupby("method")}
    curves = {name: part for name, part in curves.items() if len(part) >= 3}
    if "cafe" not in curves or "linear_probe" not in curves:
        return None
    shares = sorted(set.intersection(*(set(part.index) for part in curves.values())))
    low, high = shares[0], shares[-1]
    at = {
        share: results.filtered(fraction=(share,)).compare("linear_probe", "cafe", selection="source-val")
        for share in (low, high)
    }
    gains = ", ".join(f"{name} {tenth(part.unseen[high] - part.unseen[low])}" for name, part in curves.items())
    answer = (
        f"{apart('With ' + f'{low:.0%} of the faces CAFE', 'the linear probe', at[low])}; "
        f"{apart(f'with {high:.0%} CAFE', 'the linear probe', at[high])}. From {low:.0%} to {high:.0%} the rows gain, "
        f"in points: {gains}."
    )
    lines = {
        name: [
            f"{tenth(part.unseen[share])} ({tenth(part.unseen_low[share])} to {tenth(part.unseen_high[share])})"
            for share in shares
        ]
        for name, part in curves.items()
    }
    shown = pd.DataFrame(
        [[name, *values] for name, values in lines.items()], columns=["row", *(f"{s:.0%}" for s in shares)]
    )
    with styled():
        figure = blank(5.6, 3.2, "constrained")
        axes = figure.subplots()
        for (name, part), colour in zip(curves.items(), sns.color_palette("colorblind"), strict=False):
            axes.plot(
                [100 * s for s in shares],
                [part.unseen[s] for s in shares],
                "o-",
                ms=3,
                lw=1.2,
                color=colour,
                label=name,
            )
            axes.fill_between(
                [100 * s for s in shares],
                [part.unseen_low[s] for s in shares],
                [part.unseen_high[s] for s in shares],
                color=colour,
                alpha=0.15,
                lw=0,
            )
        axes.set_xlabel("share of the training faces (%)")
        axes.set_ylabel("accuracy on unseen domains (%)")
        axes.legend(frameon=False)
        sns.despine(figure)
    return Finding(
        "How much of a source does a method need?",
        answer,
        "fergen-bench run --protocol synth5-scale",
        shown,
        figure,
        "findings-scale",
        "Mean accuracy on unseen domains by share of the source's training faces, with 95 % intervals.",
    )


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
            "95 %": [range_text(frame.low[name], frame.high[name]) for name in EXPRESSIONS],
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


def extremes(results: fb.Results) -> Finding | None:
    """Who bears an extreme change of the face best?"""
    frame = results.corruptions
    if frame.empty:
        return None
    means = frame.groupby(["method", "factor", "level"]).accuracy.mean().reset_index()
    names = [name for name in ("cafe", "linear_probe", "full_finetune", *OWN) if name in set(means.method)]
    clean = means[means.factor == "clean"].set_index("method").accuracy
    hardest, lines = {}, []
    for factor in [name for name in dict.fromkeys(means.factor) if name != "clean"]:
        part = means[means.factor == factor].pivot_table(index="level", columns="method", values="accuracy")[names]
        level = part.mean(axis=1).idxmin()
        hardest[factor] = part.loc[level]
        lines.append([factor, f"{level:g}", *(tenth(part.loc[level, name]) for name in names)])
    best = {factor: row.idxmax() for factor, row in hardest.items()}
    count = {name: sum(one == name for one in best.values()) for name in names}
    most = max(count, key=lambda name: count[name])
    answer = (
        f"At the hardest level of each factor, {most} is most accurate in {count[most]} of {len(best)} factors; the "
        f"unchanged faces "
        f"of the source give "
        + ", ".join(f"{name} {tenth(clean[name])}" for name in names)
        + ". Differences below a few points are within the variation of trainings and faces."
    )
    shown = pd.DataFrame(lines, columns=["factor", "hardest level", *names])
    return Finding(
        "Who bears an extreme change of the face best?", answer, "fergen-bench run --protocol synth5-shift", shown
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


def sampling(results: fb.Results) -> Finding | None:
    """What do balanced sampling and the class prior change?"""
    pairs = {
        "cafe": ["cafe (sampling=balanced)", "cafe (views=plain+mirror, prior=0.5)"],
        "full_finetune": ["full_finetune (sampling=balanced)"],
        "linear_probe": ["linear_probe (views=plain+mirror, prior=0.5)"],
    }
    found = {name: one for first, others in pairs.items() for name, one in differences(results, first, others).items()}
    if not found:
        return None
    balanced = {name: results.compare(name.split(" (")[0], name, "balanced_accuracy") for name in found}
    sentences = [apart(name, name.split(" (")[0], one) for name, one in found.items()]
    shown = pd.DataFrame(
        {
            "row": list(found),
            "accuracy": [tenth(one.difference, signed=True) for one in found.values()],
            "95 %": [range_text(*one.interval) for one in found.values()],
            "balanced accuracy": [tenth(one.difference, signed=True) for one in balanced.values()],
            "95 % ": [range_text(*one.interval) for one in balanced.values()],
        }
    )
    return Finding(
        "What do balanced sampling, the mirror image and the class prior change?",
        "; ".join(sentences) + ".",
        "fergen-bench run --protocol synth5-sampling; fergen-bench run --protocol synth5-all-views",
        shown,
    )


def photographs(results: fb.Results) -> Finding | None:
    """Does the order on synth5 hold on photographs?"""
    path = REFERENCE / "photographs.csv"
    if not path.is_file():
        return None
    real = pd.read_csv(path).set_index("method")
    frame = rows(results, list(real.index), fraction=0.5)
    names = [name for name in real.index if name in frame.index]
    order, low, high = rank_correlation(frame.unseen[names].to_numpy(), real.unseen[names].to_numpy())
    best = real.unseen.idxmax()
    inside = "says little about" if low <= 0 else "agrees with"
    one = real.loc["cafe"]
    answer = (
        f"The order on synth5 {inside} the order on photographs: over {len(names)} rows the rank correlation of their "
        f"means on unseen domains is {order:.2f} (95 %: {low:.2f} to {high:.2f}, bootstrap over rows). On the two "
        f"domains of photographs `news` and `web48`, with the networks of synth5, which never saw a photograph, {best} "
        f"has the highest mean, {tenth(real.unseen[best])}, and the linear probe {tenth(real.unseen['linear_probe'])}. "
        f"CAFE differs from the linear probe by {tenth(one.over_linear_probe, signed=True)} points there (95 %: "
        f"{range_text(one.over_low, one.over_high)}, for these trainings)."
    )
    shown = pd.DataFrame(
        {
            "row": names,
            "synth5": [tenth(frame.unseen[name]) for name in names],
            "photographs": [tenth(real.unseen[name]) for name in names],
            "95 %": [f"{tenth(real.unseen_low[name])} to {tenth(real.unseen_high[name])}" for name in names],
            "seeds": [str(real.seeds[name]) for name in names],
        }
    )
    with styled():
        figure = blank(4.6, 3.6, "constrained")
        axes = figure.subplots()
        axes.scatter(frame.unseen[names], real.unseen[names], s=14, color="#0072b2")
        for name in ("cafe", "linear_probe", best):
            axes.annotate(
                name, (frame.unseen[name], real.unseen[name]), xytext=(4, 3), textcoords="offset points", fontsize=7
            )
        axes.set_xlabel("synth5, unseen (%)")
        axes.set_ylabel("photographs, unseen (%)")
        sns.despine(figure)
    return Finding(
        "Does the order on synth5 hold on photographs?",
        answer,
        "fergen-bench run --suite photographs --protocol all --seeds 0",
        shown,
        figure,
        "findings-photographs",
        "Mean accuracy on unseen domains: one point per row of the fair table.",
    )


def rank_correlation(first: np.ndarray, second: np.ndarray, replicates: int = 2000) -> tuple[float, float, float]:
    """Return Spearman's correlation of two arrays (N,) and its 95 % interval by bootstrap over the N rows."""
    from scipy.stats import spearmanr

    random = np.random.default_rng(0)
    found = []
    for _ in range(replicates):
        taken = random.integers(0, len(first), len(first))
        if len(np.unique(taken)) > 2:
            found.append(spearmanr(first[taken], second[taken]).statistic)
    low, high = np.nanquantile(found, [0.025, 0.975])
    return float(spearmanr(first, second).statistic), float(low), float(high)


OWN = ("keep_and_train",)
SECTIONS: tuple[Section, ...] = (
    fair,
    ablation,
    adaptation,
    online,
    several,
    networks,
    scale,
    expressions,
    extremes,
    masks,
    sampling,
    photographs,
)


# ----------------------------------------------------------------------------------------------------------------- page


def page(findings: Sequence[Finding]) -> str:
    """Return the page as Markdown."""
    parts = [HEAD]
    for one in findings:
        parts.append(f"## {one.question}\n\n{one.answer}\n")
        if one.figure is not None:
            parts.append(f"![{one.caption}](pictures/{one.name}.svg)\n\n*{one.caption}*\n")
        if one.table is not None:
            parts.append(markdown(one.table) + "\n")
        parts.append(f"Repeat it with `{one.command}`.\n")
    return "\n".join(parts)


def markdown(frame: pd.DataFrame) -> str:
    """Return a frame of texts as a Markdown table; columns of numbers to the right."""
    lines = ["| " + " | ".join(frame.columns) + " |", "|---|" + "---:|" * (len(frame.columns) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in frame.to_numpy().tolist())])


def main(argv: list[str] | None = None) -> int:
    """Write or check the page; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, and fail where the page differs")
    parser.add_argument("--records", default="reference", help="the results; default: those that are committed")
    options = parser.parse_args(argv)
    results = fb.load_results(options.records, suite="synth5")
    findings = [one for section in SECTIONS if (one := section(results)) is not None]
    text = page(findings)
    if options.check:
        return int(PAGE.read_text(encoding="utf-8") != text)
    PAGE.write_text(text, encoding="utf-8")
    for one in findings:
        if one.figure is not None:
            with styled():
                one.figure.savefig(PICTURES / f"{one.name}.svg", metadata={"Date": None})
    matrix = results.filtered(protocol=BASE).plot_matrix("cafe")
    with styled():
        matrix.savefig(PICTURES / "cafe-matrix.png", dpi=200, bbox_inches="tight")
    return 0


if __name__ == "__main__":
    sys.exit(main())

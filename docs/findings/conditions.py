"""What decides a result besides the method: the frozen network, the amount of data, the sampling, extreme faces."""

from __future__ import annotations

import numpy as np
import pandas as pd
from finding import (
    IMAGENET,
    OWN,
    TRUNK,
    Finding,
    apart,
    confidence,
    differences,
    leaderboard,
    paired_seeds,
    rows,
    short,
    signed,
    table,
    trainings,
)

import fergen_bench as fb
from fergen_bench.report.canvas import blank, sns, styled
from fergen_bench.report.comparison import range_text
from fergen_bench.report.intervals import ALPHA, Difference, freedom_of, t_quantile, t_tail
from fergen_bench.report.rounding import tenth
from fergen_bench.wording import listed


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
    if len(rows(results, list(named), fraction=0.5)) < len(named):
        return None
    over = {short(name): name for name in leaderboard(results).method.unique() if IMAGENET in name}
    if {"cafe", "linear_probe"} <= over.keys():
        named["cafe (features=cached)"] = "CAFE, cached features, face encoder"
        named[over["cafe"]] = "CAFE, cached features, ImageNet network"
        named[over["linear_probe"]] = "linear probe, ImageNet network"
    frame = rows(results, list(named), fraction=0.5)
    mean = dict(zip((named[name] for name in frame.index), frame.unseen, strict=True))
    network = results.compare("linear_probe", "linear_probe (backbone=synth-trunk)", fraction=0.5)
    method = results.compare("linear_probe", "cafe", fraction=0.5)
    on_trunk = results.compare("linear_probe (backbone=synth-trunk)", "cafe (backbone=synth-trunk)", fraction=0.5)
    word = "more" if abs(network.difference) > abs(method.difference) else "less"
    answer = (
        f"The frozen network decides {word} than the method: on the trunk a linear probe differs by "
        f"{tenth(network.difference, signed=True)} points ({confidence(network)}) from one on the face "
        f"encoder, on which CAFE differs from it by {tenth(method.difference, signed=True)} (on the trunk by "
        f"{tenth(on_trunk.difference, signed=True)}). On random weights a linear probe has "
        f"{tenth(mean['linear probe, random weights'])} and CAFE, which also trains a trunk, "
        f"{tenth(mean['CAFE, random weights'])}."
    )
    if over.get("linear_probe") in named:
        gain = results.compare(over["linear_probe"], over["cafe"], fraction=0.5)
        answer += (
            f" Over EfficientNet-Lite0, which was trained on the photographs of ImageNet and never saw a rendered "
            f"face, a linear probe has {tenth(mean['linear probe, ImageNet network'])}; "
            f"{apart('there CAFE with cached features', 'it', gain)}."
        )
    shown = table(frame.rename(index=named)).drop(columns=["standing", "worst unseen"])
    return Finding(
        "How much does the frozen network decide?", answer, "fergen-bench run --protocol synth5-backbones", shown
    )


def scale(results: fb.Results) -> Finding | None:
    """How much of a source does a method need?"""
    frame = leaderboard(results)
    wanted = ["cafe", "linear_probe", "full_finetune", *OWN]
    frame = frame[frame.method.isin(wanted) & (frame.sources == 1) & ~frame.adaptation & ~frame.online]
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
        f"in points: {gains}{'; full_finetune trains the encoder' if 'full_finetune' in curves else ''}."
    )
    lines = {
        name: [
            f"{tenth(part.unseen[share])} ({tenth(part.unseen_low[share])} to {tenth(part.unseen_high[share])})"
            for share in shares
        ]
        for name, part in curves.items()
    }
    shown = pd.DataFrame(
        [
            [name, *values, ", ".join(str(curves[name].seeds[share]) for share in shares)]
            for name, values in lines.items()
        ],
        columns=["row", *(f"{share:.0%}" for share in shares), "seeds at these shares"],
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


def extremes(results: fb.Results) -> Finding | None:
    """Who bears an extreme change of the face best?"""
    frame = results.corruptions
    if frame.empty:
        return None
    frame = frame[(frame.fraction == 0.5) & (frame.relation == "source")]
    there = {name: set(part.source) for name, part in frame.groupby("method")}
    runs = {name: {*zip(part.source, part.seed, strict=True)} for name, part in frame.groupby("method")}
    shared = {source for source, _ in runs.get("cafe", set()) & runs.get("linear_probe", set())}
    sources = [name for name in results.domains if name in shared]
    if not sources:
        return None
    names = [name for name in ("cafe", "linear_probe", "even_probe", TRUNK, *OWN) if shared <= there.get(name, set())]
    frame = frame[frame.source.isin(sources) & frame.method.isin(names)]
    of_source = frame.groupby(["method", "factor", "level", "source"]).accuracy.mean()
    means = of_source.groupby(["method", "factor", "level"]).mean().reset_index()
    clean = means[means.factor == "clean"].set_index("method").accuracy
    hardest, gaps = {}, {}
    lines = [["unchanged", "—", *(tenth(clean[name]) for name in names), "—", "—"]]
    for factor in [name for name in dict.fromkeys(means.factor) if name != "clean"]:
        part = means[means.factor == factor].pivot_table(index="level", columns="method", values="accuracy")[names]
        level = part.mean(axis=1).idxmin()
        hardest[factor] = part.loc[level]
        at = frame[(frame.factor == factor) & (frame.level == level)]
        gaps[factor] = gap = on_changed_faces(at[at.method == "linear_probe"], at[at.method == "cafe"])
        both = tenth(gap.value, signed=True), range_text(gap.low, gap.high)
        lines.append([factor, f"{level:g}", *(tenth(part.loc[level, name]) for name in names), *both])
    least = min(hardest, key=lambda factor: hardest[factor].cafe)
    told = {factor: gap for factor, gap in gaps.items() if gap.low > 0 or gap.high < 0}
    others = [abs(gap.value) for factor, gap in gaps.items() if factor not in told]
    named = listed(f"{factor} ({tenth(gap.value, signed=True)})" for factor, gap in told.items()) or "no factor"
    which = "the other differences" if told else "the differences"
    rest = f"; {which} are at most {tenth(max(others))} points, and may be chance" if others else ""
    one_seed = ", for these trainings," if any(np.isnan(gap.p) for gap in gaps.values()) else ""
    seeds = frame.groupby(["method", "source"]).seed.nunique()
    return Finding(
        "Who bears an extreme change of the face best?",
        f"At the hardest level of a factor{one_seed} CAFE differs from the linear probe in {named}{rest}. No "
        f"predictions of faces that are drawn again are stored, so the intervals count the faces of the two rows as "
        f"different ones, and are wider than those of pairs. CAFE loses most against unchanged faces by {least}. "
        f"Sources: {listed(sources)}, each scored on {frame.asked.max():,} of its own test faces, drawn again; "
        f"{trainings(seeds)} of each.",
        "fergen-bench run --protocol synth5-shift",
        pd.DataFrame(lines, columns=["factor", "hardest level", *names, "cafe minus linear_probe", "95 %"]),
    )


def on_changed_faces(first: pd.DataFrame, second: pd.DataFrame) -> Difference:
    """Return second minus first in accuracy on changed faces, the mean over sources, in points.

    Trainings vary as the seeds of a source do that both rows have. Of changed faces only confusion matrices are stored,
    so those of both rows count as drawn apart, which overestimates the variance of their difference.

    Args:
        first: Cells of `Results.corruptions` at one level, one per source and seed.
        second: Those of the other row.
    """
    both = first.merge(second, on=["source", "seed"], suffixes=("", "_second"))
    parts = [part for _, part in both.groupby("source")]
    seeds = [(part.accuracy_second - part.accuracy).to_numpy() / len(part) / len(parts) for part in parts]
    variance = sum(len(own) * np.var(own, ddof=1) for own in seeds if len(own) > 1)
    for part in parts:
        for name in ("accuracy", "accuracy_second"):
            right = part[name].mean()
            variance += right * (100 - right) / part.faces.min() / len(parts) ** 2
    value, error = float(sum(own.sum() for own in seeds)), float(np.sqrt(variance))
    freedom = freedom_of(seeds, variance)
    reach = t_quantile(ALPHA / 2, freedom) * error
    several = all(len(own) > 1 for own in seeds)
    return Difference(
        value, value - reach, value + reach, 2 * t_tail(abs(value) / error, freedom) if several else np.nan
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
    balanced = {name: results.compare(short(name), name, "balanced_accuracy") for name in found}
    sentences = [apart(name, short(name), one) for name, one in found.items()]
    shown = pd.DataFrame({"row": list(found)})
    shown["difference in accuracy"], shown["95 %"] = signed(found)
    shown["difference in balanced accuracy"], shown["95 % "] = signed(balanced)
    shown["seeds"] = paired_seeds(found)
    return Finding(
        "What do balanced sampling, the mirror image and the class prior change?",
        f"{'; '.join(sentences)}. In balanced accuracy the differences are "
        f"{listed([f'{name} {tenth(one.difference, signed=True)}' for name, one in balanced.items()])}.",
        "fergen-bench run --protocol synth5-sampling; fergen-bench run --protocol synth5-all-views",
        shown,
    )

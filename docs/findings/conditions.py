"""What decides a result besides the method: the frozen network, the amount of data, the sampling, extreme faces."""

from __future__ import annotations

import pandas as pd
from finding import OWN, TRUNK, Finding, apart, differences, leaderboard, rows, short, table

import fergen_bench as fb
from fergen_bench.report.canvas import blank, sns, styled
from fergen_bench.report.comparison import range_text
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
        f"in points: {gains}; full_finetune trains the encoder."
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


def extremes(results: fb.Results) -> Finding | None:
    """Who bears an extreme change of the face best?"""
    frame = results.corruptions
    if frame.empty:
        return None
    means = frame.groupby(["method", "factor", "level"]).accuracy.mean().reset_index()
    names = [name for name in ("cafe", "linear_probe", TRUNK, *OWN) if name in set(means.method)]
    clean = means[means.factor == "clean"].set_index("method").accuracy
    hardest, lines = {}, [["unchanged", "—", *(tenth(clean[name]) for name in names)]]
    for factor in [name for name in dict.fromkeys(means.factor) if name != "clean"]:
        part = means[means.factor == factor].pivot_table(index="level", columns="method", values="accuracy")[names]
        level = part.mean(axis=1).idxmin()
        hardest[factor] = part.loc[level]
        lines.append([factor, f"{level:g}", *(tenth(part.loc[level, name]) for name in names)])
    faces = frame[(frame.method == "cafe") & (frame.factor == "clean")].asked.sum()
    chance = 196 * (0.5 / faces) ** 0.5
    gaps = {factor: row.cafe - row.linear_probe for factor, row in hardest.items()}
    least = min(hardest, key=lambda factor: hardest[factor].cafe)
    within = max(abs(gap) for gap in gaps.values() if abs(gap) <= chance)
    told = [f"{factor} ({tenth(gap, signed=True)})" for factor, gap in gaps.items() if abs(gap) > chance]
    answer = (
        f"At the hardest level of a factor CAFE differs from the linear probe in {listed(told) or 'no factor'}; the "
        f"other differences are at most {tenth(within)} points, and {tenth(chance)} may be due to the {faces:,} faces "
        f"of a number. CAFE loses most against unchanged faces by {least}."
    )
    shown = pd.DataFrame(lines, columns=["factor", "hardest level", *names])
    sources = listed(dict.fromkeys(frame.source))
    return Finding(
        "Who bears an extreme change of the face best?",
        f"{answer} Sources: {sources}, each scored on its own test faces, drawn again; one training.",
        "fergen-bench run --protocol synth5-shift",
        shown,
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

"""What holds on photographs: the order of synth5, and CAFE's gain over a network that was trained on photographs."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
from finding import IMAGENET, REFERENCE, TRUNK, Finding, ranges, rows, short

import fergen_bench as fb
from fergen_bench.report.canvas import blank, sns, styled
from fergen_bench.report.comparison import range_text
from fergen_bench.report.rounding import tenth
from fergen_bench.wording import listed

PHOTOGRAPHS = (
    "grep -vE '^(suite|fraction):' protocols/synth5-all.yaml > protocols/photographs.yaml && "
    "fergen-bench run --suite photographs --protocol photographs"
)
"""The command of the runs on photographs: `synth5-all` on all training faces of the suite of docs/results.md."""


def photographs(results: fb.Results) -> Finding | None:
    """Does the order on synth5 hold on photographs?"""
    path = REFERENCE / "photographs.csv"
    if not path.is_file():
        return None
    real = pd.read_csv(path).set_index("method")
    frame = rows(results, list(real.index), fraction=0.5)
    names = [name for name in real.index if name in frame.index]
    if len(names) < 3:
        return None
    order, low, high = rank_correlation(frame.unseen[names].to_numpy(), real.unseen[names].to_numpy())
    best = real.unseen.idxmax()
    inside = "says little about" if low <= 0 else "agrees with"
    one = real.loc["cafe"]
    once = min(one.seeds, real.seeds["linear_probe"]) == 1
    above = [name for name in real.index if real.over_cafe_low[name] > 0]
    level = [name for name in real.index if real.over_cafe_low[name] <= 0 <= real.over_cafe_high[name]]
    others = real.over_cafe.notna().sum()
    answer = (
        f"The order on synth5 {inside} the order on photographs: over {len(names)} rows the rank correlation of their "
        f"means on unseen domains is {order:.2f} (95 %: {low:.2f} to {high:.2f}, bootstrap over rows). On the two "
        f"domains of photographs `news` and `web48`, with the networks of synth5, which never saw a photograph, {best} "
        f"has the highest mean, {tenth(real.unseen[best])}, and the linear probe {tenth(real.unseen['linear_probe'])}. "
        f"CAFE differs from the linear probe by {tenth(one.over_linear_probe, signed=True)} points there (95 %: "
        f"{range_text(one.over_low, one.over_high)}{', for these trainings' if once else ''}). Of {others} other rows, "
        f"{len(above) or 'none'} {'are' if len(above) > 1 else 'is'} above CAFE, and {listed(level) or 'none'} "
        f"cannot be told from it (each at 95 %, uncorrected). The lowest row there is "
        f"{real.unseen.idxmin()}, {tenth(real.unseen.min())}; an answer that is always the commonest "
        f"expression of a domain has {tenth(one.commonest)}. {int(one.faces):,} faces are scored."
    )
    shown = pd.DataFrame(
        {
            "row": names,
            "synth5": [tenth(frame.unseen[name]) for name in names],
            "photographs": [tenth(real.unseen[name]) for name in names],
            "95 %": ranges(real.loc[names]),
            "from CAFE": [tenth(real.over_cafe[name], signed=True) for name in names],
            "95 % of it": [range_text(real.over_cafe_low[name], real.over_cafe_high[name]) for name in names],
            "seeds": [str(real.seeds[name]) for name in names],
        }
    )
    with styled():
        figure = blank(4.6, 3.6, "constrained")
        axes = figure.subplots()
        axes.scatter(frame.unseen[names], real.unseen[names], s=14, color="#0072b2")
        for name in dict.fromkeys(one for one in ("cafe", "linear_probe", best, *level) if one in names):
            point = frame.unseen[name], real.unseen[name]
            axes.annotate(short(name), point, xytext=(4, 3), textcoords="offset points", fontsize=7)
        axes.set_xlabel("synth5, unseen (%)")
        axes.set_ylabel("photographs, unseen (%)")
        sns.despine(figure)
    return Finding(
        "Does the order on synth5 hold on photographs?",
        answer,
        PHOTOGRAPHS,
        shown,
        figure,
        "findings-photographs",
        "Mean accuracy on unseen domains: one point for each row of the fair table with runs on photographs.",
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


def imagenet(results: fb.Results) -> Finding | None:
    """Does CAFE gain over a network that was trained on photographs?"""
    path = REFERENCE / "photographs-imagenet.csv"
    if not path.is_file():
        return None
    real = pd.read_csv(path)
    real["row"] = [re.sub(r"backbone=[^,)]+(, )?", "", name).removesuffix(" ()") for name in real.method]
    real["network"] = ["ImageNet" if IMAGENET in name else "face encoder" for name in real.method]
    real = real.set_index(["row", "network"])
    cafe, probe = real.loc[("cafe (features=cached)", "ImageNet")], real.loc[("linear_probe", "ImageNet")]
    told = cafe.over_low > 0 or cafe.over_high < 0
    verdict = ("Yes" if cafe.over_low > 0 else "No") if told else "It cannot be told from no gain"
    limit = ", for these trainings" if 1 in (cafe.seeds, probe.seeds) else ""
    helps = "helps" if probe.over_low > 0 else "does not help"
    trunk = pd.read_csv(REFERENCE / "photographs.csv").set_index("method").unseen[TRUNK]
    answer = (
        f"{verdict}: over an EfficientNet-Lite0 that was trained on ImageNet, CAFE differs from the linear probe on "
        f"the same features by {tenth(cafe.over_linear_probe, signed=True)} points (95 %: "
        f"{range_text(cafe.over_low, cafe.over_high)}{limit}), on the two domains of photographs. It has "
        f"{tenth(cafe.unseen)}, where the probe has {tenth(probe.unseen)} and plain fine-tuning of its trunk alone "
        f"{tenth(trunk)}. This network {helps} by itself: its linear probe differs from that on the face encoder, "
        f"which saw rendered faces alone, by "
        f"{tenth(probe.over_linear_probe, signed=True)} points (95 %: "
        f"{range_text(probe.over_low, probe.over_high)}{limit}). "
        f"CAFE's frozen features are those of unchanged images here, for both networks."
    )
    paired = [name != "linear_probe" for name, _ in real.index]
    shown = pd.DataFrame(
        {
            "row": [name for name, _ in real.index],
            "frozen network": [network for _, network in real.index],
            "unseen": [tenth(value) for value in real.unseen],
            "95 %": ranges(real),
            "difference from the linear probe on the same network": [
                tenth(value, signed=True) if known else "—"
                for value, known in zip(real.over_linear_probe, paired, strict=True)
            ],
            "95 % ": [
                range_text(low, high) if known else "—"
                for low, high, known in zip(real.over_low, real.over_high, paired, strict=True)
            ],
            "seeds": [str(value) for value in real.seeds],
        }
    )
    return Finding(
        "Does CAFE gain over a network that was trained on photographs?",
        answer,
        f"{PHOTOGRAPHS} --method cafe --set features=cached --backbone timm:{IMAGENET}/./lite0.safetensors",
        shown,
    )

"""Which method generalises best: under equal conditions, with images of the target, with several sources."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import yaml
from finding import (
    BASE,
    ROOT,
    TRUNK,
    Finding,
    apart,
    differences,
    forest,
    forest_of,
    leaderboard,
    rows,
    short,
    signed,
    table,
)

import fergen_bench as fb
from fergen_bench.report.rounding import tenth
from fergen_bench.wording import listed


def fair(results: fb.Results) -> Finding | None:
    """Which method is best under equal conditions?"""
    if rows(results, ["cafe"], fraction=0.5).empty:
        return None
    whole, results = results, results.filtered(protocol=BASE)
    names = [row.name for view in results.views() if not view.board.adaptation for row in view.rows]
    frame = rows(results, [name for name in names if not changed(name)], fraction=0.5)
    if "cafe" not in frame.index:
        return None
    best = frame.index[0]
    tied = [name for name in frame.index[1:] if frame.standing[name] == "tied"]
    compared = "other" if (frame.standing != "not compared").all() else "compared"
    others = f"not significantly different: {', '.join(tied)}" if tied else f"every {compared} row is behind it"
    if frame.standing[best] == "not compared":
        others = f"95 %: {tenth(frame.unseen_low[best])} to {tenth(frame.unseen_high[best])}; not compared: "
        others += frame.standing_reason[best]
    missing = [name for name in planned(BASE) if name not in set(frame.base_method)]
    answer = f"{best} has the highest mean, {tenth(frame.unseen[best])} ({others})."
    if (pair := differences(results, "linear_probe", ["cafe"])) and best != "cafe":
        answer += f" {apart('CAFE', 'the linear probe on the same frozen features', pair['cafe'])}."
    trunk = [name for name in frame.index if frame.pretraining[name].startswith("synth-trunk")]
    if TRUNK in trunk:
        top = frame.unseen[[name for name in trunk if name != TRUNK]].idxmax()
        answer += (
            f" Rows that classify features of the frozen encoder have {tenth(frame.unseen[frozen(frame)].min())} or "
            f"more; plain fine-tuning of the trunk has {tenth(frame.unseen[TRUNK])}, and of the other rows that train "
            f"the trunk alone {top} has the most, {tenth(frame.unseen[top])}."
        )
    if not rows(whole, ["full_finetune"], fraction=0.5).empty:
        tuned = whole.compare("full_finetune", "cafe", fraction=0.5)
        answer += f" Not a row of this table: {apart('CAFE', 'fine-tuning of the whole encoder', tuned)}."
    if missing:
        answer += f" Without complete runs yet: {listed(missing)}."
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


def planned(protocol: str) -> list[str]:
    """Return the methods of a protocol."""
    return list(yaml.safe_load((ROOT / "protocols" / f"{protocol}.yaml").read_text(encoding="utf-8"))["method"])


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


def sources_of(results: fb.Results, names: Sequence[str]) -> list[str]:
    """Return the sources of rows that adapt to a target, in the order of the suite."""
    trained = {record.spec.sources for record in results.records if record.spec.label in names}
    return [name for name in results.domains if any(name in sources for sources in trained)]


def adaptation(results: fb.Results) -> Finding | None:
    """Do unlabelled images of the target help more than CAFE does?"""
    frame = leaderboard(results)
    frame = frame[frame.adaptation & frame.unseen.notna()].drop_duplicates("method").set_index("method")
    adapted = list(frame.index)
    found = differences(results, "cafe", adapted)
    if not found:
        return None
    plain = differences(results, TRUNK, adapted)
    above = [short(name) for name, one in found.items() if one.interval[0] > 0]
    sizes = [one.difference for one in found.values()]
    lead = f"Yes, for {listed(above)}" if above else f"No: none of {listed(map(short, found))} is above CAFE"
    answer = (
        f"{lead}; their differences from it are {tenth(min(sizes), signed=True)} to {tenth(max(sizes), signed=True)} "
        f"points, on the same sources ({listed(sources_of(results, adapted))}) and targets. They train the trunk, and "
        f"CAFE keeps the encoder's features"
    )
    most = plain and all(2 * abs(one.difference) < abs(found[name].difference) for name, one in plain.items())
    answer += ": most of the difference is the network." if most else "."
    if plain:
        gains = [apart(short(name), "it", one) for name, one in plain.items()]
        answer += f" Against plain fine-tuning of the same trunk: {'; '.join(gains)}."
    answer += " CDANN needs labels of every domain, so it cannot use unlabelled images."
    shown = pd.DataFrame({"row": list(found)})
    for title, several in (("CAFE", found), ("plain fine-tuning", plain)):
        if several:
            shown[f"difference from {title}"], shown[f"95 %{' ' * (title != 'CAFE')}"] = signed(several)
    shown["seeds"] = [str(frame.seeds[name]) for name in found]
    return Finding(
        "Do unlabelled images of the target help more than CAFE?",
        answer,
        "fergen-bench run --protocol synth5-adaptation",
        shown,
    )


def online(results: fb.Results) -> Finding | None:
    """Does it help to adapt to the test images while they are predicted?"""
    frame = leaderboard(results)
    bases = {record.spec.label: record.spec.base.label for record in results.records if record.spec.base is not None}
    based = frame.method.map(bases).isin(frame.method)  # others have nothing to be compared with
    frame = frame[frame.online & frame.unseen.notna() & based].drop_duplicates("method").set_index("method")
    if frame.empty:
        return None
    found = {name: results.compare(bases[name], name) for name in frame.index}
    plain = [name for name in frame.index if "stream" not in name]
    words = {"linear_probe": "the linear probe", TRUNK: "the fine-tuned trunk"}
    sentences = [
        apart(short(name), f"{words.get(bases[name], bases[name])} that it starts from", found[name]) for name in plain
    ]
    sizes, intervals = signed(found)
    helped = [short(name) for name in plain if found[name].interval[0] > 0]
    answer = (
        f"{f'It helps {listed(helped)}' if helped else 'No'}: with images in random order, 64 at a time, "
        f"{'; '.join(sentences)}."
    )
    ordered = [f"{short(name)} {tenth(found[name].difference, signed=True)}" for name in found if "sorted" in name]
    if ordered:
        answer += f" If the images come sorted by expression, the differences are {', '.join(ordered)} points."
    shown = pd.DataFrame(
        {
            "row": list(frame.index),
            "unseen": [tenth(value) for value in frame.unseen],
            "difference from its base": sizes,
            "95 %": intervals,
            "seeds": [str(value) for value in frame.seeds],
        }
    )
    return Finding(
        "Does it help to adapt to test images while they are predicted?",
        answer,
        "fergen-bench run --protocol synth5-online",
        shown,
        forest_of(found, "adapted minus its base (points)"),
        "findings-online",
        "Difference of each online method from the fitted method that it starts from, with 95 % intervals.",
    )


def several(results: fb.Results) -> Finding | None:
    """Which method makes the best use of several sources?"""
    frame = leaderboard(results)
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

"""Write docs/findings.md and its figures from the committed results.

    python docs/findings            # write the page
    python docs/findings --check    # exit with 1 where the page differs from the results

Every number of the page is computed here from records. A sentence that ranks two rows takes its words from the
interval of their difference, so it cannot contradict the numbers. A question whose runs are missing has no section.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import pandas as pd
from comparisons import adaptation, fair, online, several
from conditions import extremes, networks, sampling, scale
from finding import BASE, ROOT, Finding, Section
from parts import ablation, expressions, masks
from photographic import imagenet, photographs

import fergen_bench as fb
from fergen_bench.report.canvas import styled

PAGE = ROOT / "docs" / "findings.md"
PICTURES = ROOT / "docs" / "pictures"
HEAD = """# Findings

What the committed results answer. All numbers are accuracies in per cent, or differences of them in points, on domains
that a run was not trained on, unless a section says otherwise. Intervals are 95 %; [statistics](statistics.md) explains
them. An interval of runs with one seed covers faces alone: it holds for these trainings, and says nothing about others.

Unless a section says otherwise, rows train on half of the training faces of each of the five domains alone, and are
scored on 1,000 faces of every domain, on one view of each, with nothing taken out of their logits. A difference is
paired: it is taken over the seeds, sources and targets that both rows have, so it can differ from the difference of
their means. The linear probe and `even_probe` are fitted on all of these faces of a source; rows that choose an epoch
never learn from a tenth of them. The results are in `results/reference`; `python docs/findings` writes this page from
them.

**synth5 consists of rendered faces, and so do the images that its two networks were trained on.** The frozen encoder
learned landmarks and pose from the same renderer, and the trunk identities alone: that rows on the encoder are ahead of
rows that train the trunk shows this advantage, and no more. What holds here need not hold on photographs: see [what is
not known](unknown.md).
"""
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
    imagenet,
)


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
    try:
        sys.exit(main())
    except fb.BenchError as error:
        sys.exit(f"docs/findings: {error}")

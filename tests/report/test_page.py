"""The page of a report."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from examples import SPEC, finished
from sample_records import views, with_annotators

from fergen_bench.data.domain import Domain
from fergen_bench.experiment.shipped import shipped
from fergen_bench.metric import METRICS
from fergen_bench.records.collection import RecordFolder
from fergen_bench.records.frame import cells_frame
from fergen_bench.records.record import Cell, Predictions, RunRecord
from fergen_bench.records.store import save
from fergen_bench.report import details, figures, folder, page, published, tables
from fergen_bench.report.comparison import answer, compare, range_text
from fergen_bench.report.page import Content, ShownFaces
from fergen_bench.report.page.drawings import inline
from fergen_bench.report.rounding import tenth
from fergen_bench.report.statistics import Evidence
from fergen_bench.report.verdicts import judged

TARGETS = ("web", "grey48", "film")


HOSTILE = "<script>alert('$x$')</script>"


def made(
    runs: Path, method: str, skill: float, source: str, seed: int, mask: bool = False, **changes: Any
) -> RunRecord:
    """A record with predictions of 60 faces a target, and optionally a mask of 16 channels."""
    draws = np.random.default_rng([*method.encode(), *source.encode(), seed])
    relations = {target: "source" if target == source else "unseen" for target in TARGETS}
    values: dict[str, Any] = {
        "suite": "synth5-tiny",
        "sources": (source,),
        "fingerprints": {source: f"of {source}"},
        "targets": {target: f"of {target}" for target in TARGETS},
        "relations": relations,
        "method": method,
        "seed": seed,
        "synthetic": True,
        "parameters": {"gate": "sigmoid", "backbone": "synth//home/me/w.pt"},
        "defaults": {"gate": "sigmoid", "backbone": "synth//home/me/w.pt"},
        "weights": {"backbone": "d1"},
    }
    spec = replace(SPEC, **{**values, **changes})
    cells, predictions, arrays = [], {}, {}
    for target, relation in relations.items():
        labels = np.arange(60) % 7
        logits = draws.normal(size=(60, 7)) + skill * np.eye(7)[labels]
        predictions[target] = Predictions(logits, labels, np.zeros(60, bool))
        confusion = np.zeros((7, 7), int)
        np.add.at(confusion, (labels, logits.argmax(1)), 1)
        cells.append(Cell(target, spec.targets[target], relation, confusion.tolist()))
        if mask:
            arrays |= {
                f"{target}.mask.mean": draws.uniform(0.5, 1, (7, 16)).astype(np.float16),
                f"{target}.mask.sd": draws.uniform(0, 0.1, (7, 16)).astype(np.float16),
                f"{target}.mask.count": np.bincount(labels, minlength=7),
                f"{target}.mask.varying": np.arange(4),
                f"{target}.mask.top": np.arange(32).reshape(4, 8),
            }
    history = tuple(
        {"epoch": epoch, "loss": 2.0 / epoch, "val_accuracy": 0.5, "images_per_second": 90.0} for epoch in (1, 2, 3)
    )
    record = finished(spec, cells=tuple(cells), history=history, environment={"commit": "c0ffee", "torch": "2"})
    save(record, runs, predictions, arrays)
    return record


def several(runs: Path, methods: dict[str, float], seeds: tuple[int, ...] = (0, 1), **changes: Any) -> list[RunRecord]:
    """mask: True adds the mask of cafe."""
    return [
        made(runs, method, skill, source, seed, method == "cafe", **changes)
        for method, skill in methods.items()
        for source in TARGETS
        for seed in seeds
    ]


def written(folder: Path, runs: Path, records: list[RunRecord], **changes: Any) -> str:
    evidence = Evidence(records, RecordFolder(runs))
    cells = evidence.calibrated(cells_frame(records))
    ranked = {name: views(judged(tables.boards(cells, name), evidence, name), name) for name in METRICS}
    path = page.write(
        folder, Content(views=ranked, records=records, stored=RecordFolder(runs), evidence=evidence, **changes)
    )
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """A page of three methods; one has a hostile name and lacks a training, one stored masks."""
    root = tmp_path_factory.mktemp("page")
    records = several(root / "runs", {"cafe": 3.0, "linear_probe": 2.0, HOSTILE: 1.0})[:-1]
    domains = {name: Domain(cache / "domains" / "synth5-tiny-v2" / name, name) for name in TARGETS}
    cells = {name: domain.fingerprint for name, domain in domains.items()}
    records = [
        replace(record, cells=tuple(replace(cell, fingerprint=cells[cell.target]) for cell in record.cells))
        for record in records
    ]
    evidence = Evidence(records, RecordFolder(root / "runs"))
    ranked = views(judged(tables.boards(evidence.calibrated(cells_frame(records)), "accuracy"), evidence, "accuracy"))
    files = folder.write(root, ranked, evidence=evidence)
    complaint = "runs/x.json: this record cannot be read"
    faces = ShownFaces(domains.get)
    written(root, root / "runs", records, drawn=files, complaints=[complaint], faces=faces)
    return root / "index.html"


class Seen(HTMLParser):
    """Counts elements and collects addresses and text outside of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.counts: dict[str, int] = {}
        self.addresses: list[str] = []
        self.text = ""
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1
        self._inside = tag
        self.addresses += [value or "" for name, value in attrs if name in {"src", "href", "xlink:href", "action"}]

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        self.text += data if self._inside not in {"script", "style"} else ""


def test_the_page_holds_everything_itself(example: Path) -> None:
    text = example.read_text(encoding="utf-8")
    seen = Seen(text)
    assert [address for address in seen.addresses if not address.startswith(("#", "data:image/"))] == []
    assert not re.findall(r"https?:|@import|url\((?!#)", text)
    assert seen.counts.get("link", 0) == 0
    assert "default-src 'none'" in html.unescape(text)
    assert example.stat().st_size < 1_500_000


def test_names_are_text_wherever_they_stand(example: Path) -> None:
    text = example.read_text(encoding="utf-8")
    seen = Seen(text)
    assert seen.counts["script"] == 2  # data and program
    assert "<script>alert" not in text
    assert HOSTILE in seen.text
    assert "/home/me" not in text


def test_what_the_page_says(example: Path) -> None:
    said = " ".join(Seen(example.read_text(encoding="utf-8")).text.split())
    for needed in (
        "synth5-tiny (synthetic faces): trained on one source, last checkpoint",
        "runs/x.json: this record cannot be read",
        f"{HOSTILE}: no record of a training on film, seed 1",
        "Few faces in",
        "Difference of two methods",
        "Recall of each expression",
        "On unseen domains cafe is best by accuracy",
        "By unseen target",
        "Reliability",
        "Training loss",
        "Accuracy on held-out faces of the source",
        "Accuracy and cost",
        "95 %: interval of the unseen mean",
        "±: standard deviation over seeds",
        "@software{fergen_bench",
        "ECE: expected calibration error on unseen targets",
        "fit, s: mean seconds of one training, without scoring",
        "cafe: mask, 6 runs",
        "cafe: mask similarity",
        "cafe on web, seed 0, faces of web (source)",
        "cafe on web, seed 0, faces of grey48 (unseen)",
    ):
        assert needed in said, needed
    assert {path.suffix for path in example.parent.glob("synth5-tiny-reliability.*")} == {".png", ".pdf", ".svg"}


@pytest.mark.slow
def test_the_same_records_give_the_same_page(tmp_path: Path) -> None:
    records = several(tmp_path / "runs", {"cafe": 2.0}, seeds=(0,))
    first, second = (written(tmp_path / name, tmp_path / "runs", records) for name in ("one", "two"))
    assert first == second


def test_published_tables_stand_below_a_domain_of_theirs_alone(tmp_path: Path, sketched: None) -> None:
    printed = published.read_published(shipped("results") / "published")
    for domain, synthetic, there in (("rafdb", False, True), ("own", False, False), ("rafdb", True, False)):
        spec = replace(SPEC, targets={domain: "f"}, relations={domain: "unseen"}, synthetic=synthetic)
        text = written(tmp_path, tmp_path / "runs", [finished(spec)], published=printed)
        assert ("Published, not measured here" in text) is there
        assert ("61.67" in text) is there  # the misprints


def test_a_single_annotator_stands_below_the_columns(tmp_path: Path, sketched: None) -> None:
    records = several(tmp_path / "runs", {"one": 1.0}, seeds=(0,))
    shares = {"web": 0.2, "grey48": 0.9, "film": 0.95}
    text = written(tmp_path, tmp_path / "runs", with_annotators(records, shares))
    said = re.sub(r"<[^>]*>", " ", text)
    assert re.search(r"single annotator\s+68\.3\s+", said)  # below the unseen mean
    assert re.search(r"single annotator\s+20\.0\s+90\.0\s+95\.0\s+", said)
    assert "above one annotator" in said
    assert "the label of several votes is easier to predict" in said
    assert "single annotator" not in written(tmp_path, tmp_path / "runs", records)


def test_boards_that_differ_in_the_share_of_data_give_a_curve(tmp_path: Path, sketched: None) -> None:
    runs = tmp_path / "runs"
    records = [
        record
        for share, skill in ((0.25, 1.0), (0.5, 1.5), (1.0, 2.0))
        for record in several(runs, {"linear_probe": skill}, fraction=share)
    ]
    text = written(tmp_path, runs, records)
    assert "How much data it takes" in text
    figure = figures.data_scale(list(tables.boards(cells_frame(records), "accuracy")), "accuracy")
    assert list(figure.axes[0].lines[0].get_xdata()) == [25, 50, 100]


def test_rows_that_lack_cells_do_not_stand_unmarked_beside_whole_ones(tmp_path: Path, sketched: None) -> None:
    runs = tmp_path / "runs"
    records = [*several(runs, {"cafe": 2.0, "linear_probe": 1.0}), made(runs, "partial", 1.0, "web", 0)]
    (board,) = tables.boards(cells_frame(records), "accuracy")
    by_key = {record.spec.key: record for record in records}
    assert list(details.rows_of(board, by_key)) == ["cafe", "linear_probe", "partial"]
    assert list(details.rows_of(board, by_key, whole=True)) == ["cafe", "linear_probe"]
    text = written(tmp_path, runs, records)
    recalls = text.partition("Recall of each expression")[2].partition("</table>")[0]
    assert "linear_probe" in recalls
    assert "partial" not in recalls
    assert "for they have no seed with all cells: partial" in text
    assert [" ".join(option.split()) for option in re.findall(r"<option.*?>(.*?)</option>", text, re.DOTALL)] == [
        "cafe", "linear_probe", "partial (3/9 cells)"
    ] * 2 * len(METRICS)  # fmt: skip
    assert '<td data-value="0">1 (3/9 cells)</td>' in text


def test_records_without_predictions_or_arrays_have_no_such_figures(tmp_path: Path, sketched: None) -> None:
    records = several(tmp_path / "runs", {"cafe": 2.0}, seeds=(0,))
    for path in (tmp_path / "runs").rglob("*.npz"):
        path.write_bytes(b"damaged")
    text = written(tmp_path, tmp_path / "runs", records)
    assert "Reliability" not in text
    assert "What methods kept" not in text


@pytest.mark.slow
def test_twenty_methods_make_a_page_that_can_be_sent(tmp_path: Path, cache: Path) -> None:
    methods = {"cafe": 2.0, **{f"method_{number}": number / 10 for number in range(19)}}
    records = [
        made(tmp_path / "runs", name, skill, source, seed, mask=True)
        for name, skill in methods.items()
        for source in TARGETS
        for seed in range(5)
    ]
    assert len(records) == 300
    assert len(written(tmp_path, tmp_path / "runs", records).encode()) < 10_000_000


@pytest.fixture
def opened(browser: Any, example: Path) -> Iterator[Any]:
    """The example in a browser. It must log nothing on the console and request nothing."""
    view = browser.new_page(viewport={"width": 1200, "height": 900})
    said: list[str] = []
    view.on("console", lambda message: said.append(message.text))
    view.on("pageerror", lambda error: said.append(str(error)))
    view.on("dialog", lambda dialog: said.append(dialog.message))
    asked: list[str] = []
    view.on("request", lambda request: asked.append(request.url))
    view.goto(example.as_uri())
    yield view
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [example.as_uri()]
    view.close()


def names(view: Any) -> list[str]:
    found: list[str] = view.locator("[data-metric=accuracy] .leaderboard tbody th button").all_inner_texts()
    return found


def column(view: Any, place: int) -> list[str]:
    cells: list[str] = view.locator(
        f"[data-metric=accuracy] .leaderboard tbody tr > :nth-child({place})"
    ).all_inner_texts()
    return [" ".join(cell.split()) for cell in cells]


@pytest.mark.slow
def test_sorting(opened: Any) -> None:
    assert names(opened) == ["cafe", "linear_probe", HOSTILE]
    head = opened.locator("[data-metric=accuracy] .leaderboard thead button")
    head.nth(2).click()  # unseen: the other way round, but what is missing stays below
    values = [float(value.partition(" ")[0]) for value in column(opened, 3)]
    assert values == sorted(values)
    head.nth(0).click()
    assert names(opened) in (["cafe", "linear_probe", HOSTILE], [HOSTILE, "cafe", "linear_probe"])  # by language
    assert opened.locator("th[aria-sort=ascending]").first.inner_text().strip().startswith("method")


@pytest.mark.slow
def test_every_number_says_where_it_comes_from(opened: Any) -> None:
    opened.evaluate("document.querySelectorAll('main details').forEach(part => { part.open = true; })")
    numbers = opened.locator("main button.number")
    count = numbers.count()
    assert count >= 3 * 5 + 3 * 9 + 9  # leaderboard, matrices, difference
    faults = opened.evaluate(
        """() => [...document.querySelectorAll("main button.number")].filter((button) => {
            button.click();
            const dialog = document.getElementById("provenance");
            const text = dialog.textContent;
            const good = dialog.open && /c0ffee/.test(text) && /synth5-tiny\\/.*-s0-[0-9a-f]{12}\\.json/.test(text);
            dialog.close();
            return !good;
        }).map((button) => button.outerHTML)"""
    )
    assert faults == []


@pytest.mark.slow
def test_a_cell_opens_by_keyboard_and_closes(opened: Any) -> None:
    cell = opened.locator("[data-metric=accuracy] details.matrix button.number").nth(1)
    cell.focus()
    opened.keyboard.press("Enter")
    dialog = opened.locator("#provenance")
    assert dialog.is_visible()
    dialog.locator("details.record summary").first.click()
    said = dialog.inner_text()
    for needed in ("web → grey48", "2 runs", "d1d1d1", "surprise"):
        assert needed in said, needed
    opened.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert opened.evaluate("document.activeElement.dataset.cell") == "web|grey48"


@pytest.mark.slow
def test_a_mean_opens_with_its_value_and_the_cells_behind_it(opened: Any) -> None:
    button = opened.locator("[data-metric=accuracy] .leaderboard button[data-column=unseen]").first
    shown = " ".join(button.inner_text().split())
    button.click()
    said = opened.locator("#provenance").inner_text()
    assert f"Unseen, accuracy: {' '.join(shown.split()[:3])} (95 %: {shown.split()[3]})" in said
    assert len(opened.locator("#provenance-body table").first.locator("tbody tr").all()) == 6


@pytest.mark.slow
def test_a_metric_is_switched_without_scripts(browser: Any, example: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    view = context.new_page()
    view.goto(example.as_uri())
    assert view.locator(".answer:visible").inner_text().startswith("On unseen domains cafe is best by accuracy")
    assert view.locator(".leaderboard:visible").count() == 1
    view.locator("#metric-balanced_accuracy").check()
    assert (
        view.locator(".answer:visible").inner_text().startswith("On unseen domains cafe is best by balanced accuracy")
    )
    assert view.locator("details.matrix:visible").count() == 3
    assert view.locator("#filter:visible").count() == 0
    context.close()


@pytest.mark.slow
def test_the_answer_the_plot_and_the_leaderboard_stand_on_the_first_screen(opened: Any) -> None:
    tops = [opened.locator(f"[data-metric=accuracy] {part}").bounding_box()["y"] for part in (
        ".answer", ".forest", ".leaderboard"
    )]  # fmt: skip
    assert tops == sorted(tops)
    assert tops[-1] < 900
    words = opened.locator("[data-metric=accuracy] .leaderboard .standing").all_inner_texts()
    assert words == ["best", "behind", "not compared"]


@pytest.mark.slow
def test_rows_are_filtered(opened: Any) -> None:
    opened.locator("#filter").fill("LINEAR")
    for part in (".forest tbody tr", ".leaderboard tbody tr", "details.matrix"):
        shown = opened.locator(f"[data-metric=accuracy] {part}:visible")
        assert shown.count() == 1
        assert "linear_probe" in shown.inner_text()
    opened.locator("#filter").fill("")
    assert opened.locator("[data-metric=accuracy] .forest tbody tr:visible").count() == 3


@pytest.mark.slow
def test_the_keyboard_skips_to_the_results_and_passes_a_table_in_one_step(opened: Any) -> None:
    opened.keyboard.press("Tab")
    assert opened.evaluate("document.activeElement.textContent") == "Skip to the results"
    stops = opened.evaluate(
        """() => [...document.querySelectorAll("a, button, input, select, summary, [tabindex]")]
            .filter((node) => node.tabIndex >= 0 && node.checkVisibility()).length"""
    )
    assert stops < 80
    number = opened.locator("[data-metric=accuracy] .leaderboard button.number").first
    number.focus()
    opened.keyboard.press("ArrowDown")
    opened.keyboard.press("ArrowRight")
    assert opened.evaluate("[document.activeElement.dataset.row, document.activeElement.dataset.column]") == [
        "1",
        "unseen",
    ]


@pytest.mark.slow
def test_a_saved_file_is_the_one_beside_the_page(opened: Any, example: Path, tmp_path: Path) -> None:
    opened.locator(".menu summary").click()
    for name in ("cells.csv", "matrix.tex"):
        with opened.expect_download() as download:
            opened.locator(f"button[data-file='{name}']").click()
        download.value.save_as(tmp_path / name)
        assert download.value.suggested_filename == name
        assert (tmp_path / name).read_bytes() == (example.parent / name).read_bytes()


@pytest.mark.slow
def test_the_difference_of_two_methods(opened: Any) -> None:
    part = opened.locator("[data-metric=accuracy] .difference")
    part.locator(".second").select_option("0")
    assert set(part.locator("td.cell").all_inner_texts()) == {"0.0"}
    part.locator(".second").select_option("1")
    matrices = opened.locator("[data-metric=accuracy] details.matrix")
    shown = [float(matrices.nth(place).locator("button.number").nth(1).text_content().split()[0]) for place in (0, 1)]
    assert float(part.locator("td.cell").nth(1).inner_text()) == pytest.approx(shown[0] - shown[1], abs=0.11)


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_the_difference_is_the_result_of_compare(browser: Any, tmp_path: Path, sketched: None, metric: str) -> None:
    runs = tmp_path / "runs"
    records = several(runs, {"cafe": 2.0, "scn": 1.7})
    written(tmp_path, runs, records)
    cells = cells_frame(records)
    one, other = (cells[cells.method == name] for name in ("scn", "cafe"))
    result = compare(one, other, Evidence(records, RecordFolder(runs)), metric)
    view = browser.new_page()
    view.goto((tmp_path / "index.html").as_uri())
    view.locator(f"#metric-{metric}").check()
    part = view.locator(f"[data-metric={metric}] .difference")
    assert part.locator(".big").inner_text() == answer("scn", "cafe", result)
    first = result.targets.iloc[0]
    line = part.locator("table").first.locator("tr", has_text=first.target).inner_text().split("\t")
    assert line[1:3] == [tenth(first.difference, signed=True), range_text(first.low, first.high)]
    part.locator(".first").select_option("1")  # the other way round
    part.locator(".second").select_option("0")
    line = part.locator("table").first.locator("tr", has_text=first.target).inner_text().split("\t")
    assert line[1:3] == [tenth(-first.difference, signed=True), range_text(-first.high, -first.low)]
    view.close()


@pytest.mark.slow
def test_a_difference_is_over_the_seeds_that_both_have_as_in_compare(browser: Any, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    records = [*several(runs, {"cafe": 2.0}, seeds=(0,)), *several(runs, {"scn": 1.0}, seeds=(0, 1))]
    written(tmp_path, runs, records)
    cells = cells_frame(records)
    one, other = (cells[cells.method == name] for name in ("scn", "cafe"))
    expected = compare(one, other, Evidence(records, RecordFolder(runs)), "accuracy").unseen.value
    view = browser.new_page()
    view.goto((tmp_path / "index.html").as_uri())
    said = view.locator("[data-metric=accuracy] .difference .quiet").last.inner_text()
    assert f"Mean over 6 unseen cells: {tenth(expected, signed=True)} points" in said
    assert "Not tested on this page" in view.locator("[data-metric=accuracy] .difference").inner_text()
    view.close()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_and_names_of_elements_pass_axe(browser: Any, example: Path, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    context = browser.new_context(color_scheme=scheme, bypass_csp=True)
    view = context.new_page()
    view.goto(example.as_uri())
    view.evaluate("document.querySelectorAll('main details, .menu').forEach(part => { part.open = true; })")
    found = axe.Axe().run(view).response["violations"]
    assert [(item["id"], item["nodes"][0]["html"][:200]) for item in found] == []
    context.close()


@pytest.mark.slow
def test_a_phone_scrolls_tables_and_not_the_page(opened: Any) -> None:
    opened.set_viewport_size({"width": 360, "height": 740})
    opened.evaluate("document.querySelectorAll('main details').forEach(part => { part.open = true; })")
    assert opened.evaluate("document.documentElement.scrollWidth") == 360
    opened.locator("[data-metric=accuracy] details.matrix button.number").first.click()
    box = opened.locator("#provenance").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 360


@pytest.mark.slow
def test_the_leaderboard_fits_a_laptop(browser: Any, tmp_path: Path, sketched: None) -> None:
    written(tmp_path, tmp_path / "runs", several(tmp_path / "runs", {"nearest_prototype": 3.0, "linear_probe": 2.0}))
    view = browser.new_page(viewport={"width": 1180, "height": 900})
    view.goto((tmp_path / "index.html").as_uri())
    table = view.locator("[data-metric=accuracy] .leaderboard")
    assert "pre-training" not in table.inner_text(), "a note below names the one that all rows share"
    assert table.evaluate("table => table.parentElement.scrollWidth - table.parentElement.clientWidth") == 0
    view.close()


@pytest.mark.slow
def test_on_paper_everything_is_open(opened: Any) -> None:
    opened.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert opened.locator("main details:not([open])").count() == 0
    assert opened.locator(".confusion:visible").count() == 6
    assert opened.locator("img").count() > 0
    assert opened.locator("img[loading=lazy]").count() == 0  # a browser prints those that it has not shown as blanks
    opened.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert opened.locator("main details:not([open])").count() > 0


def test_numbers_of_a_heat_map_stay_dark_where_text_turns_light(tmp_path: Path) -> None:
    svg = '<svg width="9pt" height="9pt"><text style="fill: %s">1</text></svg>'
    for colour, there in (("#000000", False), ("#595959", False), ("#262626", True), ("#808080", True)):
        (tmp_path / "x.svg").write_text(svg % colour)
        assert (colour in inline(tmp_path / "x.svg", "x")) is there

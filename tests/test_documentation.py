"""The pages name what the code has, their links lead somewhere, and their examples run."""

from __future__ import annotations

import re
import tomllib
from ast import literal_eval
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from pydantic import BaseModel

import fergen_bench
from conftest import ROOT, Bench
from fergen_bench import cli
from fergen_bench.data.corruption import FACTORS
from fergen_bench.data.domain import Split
from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.data.source import Source
from fergen_bench.datasets.settings import DomainSettings
from fergen_bench.experiment.method_file import read_method
from fergen_bench.experiment.outline import Request, outline
from fergen_bench.experiment.project import Project
from fergen_bench.experiment.protocol import Corruptions, Protocol, read_protocol
from fergen_bench.experiment.settings import Settings, SuiteSettings, TrackingSettings
from fergen_bench.networks.loading import load_network
from fergen_bench.networks.text import TextTower
from fergen_bench.training import augment
from fergen_bench.training.contract import Context, Method
from fergen_bench.training.graph import Batch
from fergen_bench.training.loop import GradientMethod

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "benchmarks" / "README.md", *sorted(DOCS.glob("*.md"))]
METHODS, PROTOCOLS, CONFIGURATION, PYTHON = (
    (DOCS / f"{name}.md").read_text() for name in ("methods", "protocols", "configuration", "python")
)


def prose(text: str) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def section(text: str, heading: str) -> str:
    """Return the text under a heading, up to the next heading of any level."""
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", prose(text), flags=re.DOTALL | re.MULTILINE)
    assert found is not None, heading
    return found[1]


def rows(text: str) -> Iterator[tuple[str, str]]:
    """The first two cells of every row of tables whose first cell is one `name`."""
    for line in text.splitlines():
        if (row := re.match(r"\| `([^`|]+)` \| ([^|]*) \|", line)) is not None:
            yield row[1], row[2].strip()


def first_cells(text: str) -> list[str]:
    """Every `name` in the first cells of tables."""
    return [name for cell in re.findall(r"^\|([^|]*)\|", text, re.MULTILINE) for name in re.findall(r"`([^`]+)`", cell)]


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


# ------------------------------------------------------------------------------------------------------------- links


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", prose(page.read_text()))
    for link in (link for link in links if not re.match(r"https?:", link)):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", prose(target.read_text()), flags=re.MULTILINE)
            assert anchor in map(slug, headings), link


def test_every_page_has_a_title_and_is_reached_from_the_readme() -> None:
    reached, ahead = set[Path](), [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        if page in reached:
            continue
        reached.add(page)
        links = re.findall(r"\]\(([^)\s#]+\.md)[^)]*\)", prose(page.read_text()))
        ahead += [(page.parent / link).resolve() for link in links if not re.match(r"https?:", link)]
    assert [page.name for page in PAGES if page not in reached] == []
    for page in PAGES:
        titles = re.findall(r"^# .+$", prose(page.read_text()), flags=re.MULTILINE)
        assert len(titles) == 1, page.name
        assert page.read_text().startswith(titles[0]), page.name


def test_lists_are_nested_as_both_github_and_mkdocs_read_them() -> None:
    for page in [*PAGES, ROOT / "CHANGELOG.md"]:
        nested = re.findall(r"^ {1,3}(?:[-*]|\d+\.) .*$", prose(page.read_text()), flags=re.MULTILINE)
        assert nested == [], page.name


def test_the_readme_is_a_first_page() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 150
    assert all(len(line) <= 120 for line in lines if not line.startswith("|"))


# ---------------------------------------------------------------------------------------------------------- commands


def commands(page: str) -> Iterator[list[str]]:
    """The words of each command in code, without those from a comment or a pipe on."""
    code = [block for _, block in re.findall(r"^( *)```[^\n]*\n(.*?)^ *```", page, flags=re.DOTALL | re.MULTILINE)]
    lines = [*"\n".join(code).replace("\\\n", " ").splitlines(), *re.findall(r"`([^`\n]+)`", prose(page))]
    for line in lines:
        if (found := re.match(r"\s*(?:\$ )?(?:[A-Z_]+=\S+ )*(fergen-bench|make) (.*)", line)) is not None:
            yield [found[1], *re.split(r"\s[#|>]|[;&…]", found[2])[0].split()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_on_the_pages_exist(page: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for program, *words in commands(page.read_text()):
        if program == "make":
            assert words[0] in targets, words
            continue
        command: click.Command = cli.app
        while isinstance(command, click.Group) and words and not words[0].startswith(("-", '"')):
            name = words.pop(0)
            if name == name.upper():  # COMMAND stands for any
                break
            assert name in command.commands, f"{command.name} {name}"
            command = command.commands[name]
        known = {option for part in command.params for option in (*part.opts, *part.secondary_opts)}
        for word in words:
            if re.fullmatch(r"--[a-z][a-z-]*(=.*)?", word) and isinstance(command, click.Command):
                assert word.partition("=")[0] in known | {"--help", "--debug", "--version"}, f"{command.name} {word}"


# -------------------------------------------------------------------------------------------------------------- keys


@pytest.mark.parametrize(
    ("model", "page", "heading", "read"),
    [
        (Protocol, PROTOCOLS, "One of your own", yaml.safe_load),
        (Corruptions, PROTOCOLS, "Shifts", yaml.safe_load),
        (Settings, CONFIGURATION, "The top of bench.toml", lambda cell: tomllib.loads(f"x = {cell}")["x"]),
        (TrackingSettings, CONFIGURATION, "`[tracking]`", lambda cell: tomllib.loads(f"x = {cell}")["x"]),
        (DomainSettings, CONFIGURATION, "`[domains.NAME]`", lambda cell: tomllib.loads(f"x = {cell}")["x"]),
        (SuiteSettings, CONFIGURATION, "`[suites.NAME]`", lambda cell: tomllib.loads(f"x = {cell}")["x"]),
    ],
)
def test_every_key_stands_there_with_its_default_and_no_other(
    model: type[BaseModel], page: str, heading: str, read: Any
) -> None:
    said = {name: default for name, default in rows(section(page, heading)) if name not in FACTORS}
    assert list(said) == list(model.model_fields)
    for name, default in said.items():
        field = model.model_fields[name]
        if field.is_required():
            assert default == "must be given", name
            continue
        meant = field.get_default(call_default_factory=True)
        if default == "none":
            assert meant is None, name
            continue
        value = read(default.strip("`"))
        if isinstance(meant, BaseModel):
            assert type(meant).model_validate(value) == meant, name
        else:
            assert value == (str(meant) if isinstance(meant, Path) else meant[0] if name == "fraction" else meant), name


def test_every_factor_that_can_be_shifted_stands_there() -> None:
    _, _, table = section(PROTOCOLS, "Shifts").partition("| factor |")
    assert sorted(first_cells(table)) == sorted(FACTORS)


# --------------------------------------------------------------------------------------------- what methods are given


def test_every_public_name_stands_on_the_page_of_its_readers() -> None:
    for page, names in ((METHODS, fergen_bench._FOR_METHODS), (PYTHON, fergen_bench._API)):
        named = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", prose(page)))))
        assert set(names) <= named


def test_the_page_of_the_api_shows_every_public_name() -> None:
    shown = re.findall(r"^::: (fergen_bench\.\S+)$", (DOCS / "api.md").read_text(), flags=re.MULTILINE)
    assert sorted(shown) == sorted(f"fergen_bench.{home}.{name}" for name, home in fergen_bench._HOME.items())


def test_what_a_method_is_given_is_there(ctx: Context, source: Source) -> None:
    network = load_network("synth", ctx.device)
    given: dict[str, Any] = {
        "`Context`": ctx,
        "`Source`": source,
        "`Split`": source.train,
        "`SampleDraws`": augment.SampleDraws,
        "`Network`": network,
        "`TextTower`": TextTower,
        "`fergen_bench.training.augment`": augment,
    }
    for heading, thing in given.items():
        names = [name for name, _ in rows(section(METHODS, heading))]
        assert len(names) >= 3
        for name in names:
            assert hasattr(thing, name), f"{heading}: {name}"
    batch = [name for name, _ in rows(section(METHODS, "`Batch`"))]
    fields = [name for name in Batch.__annotations__ if not name.startswith("_")]
    assert sorted(batch) == sorted([*fields, "drawn", "with_images"])
    given_as_val = {"held_out", "undivided"}
    of_source = {*Source.__annotations__, "val", "fit_index", "val_index"} - given_as_val
    assert of_source == {name for name, _ in rows(section(METHODS, "`Source`"))}
    public = {name for name in vars(Split) if not name.startswith("_")} | {"pieces"}
    assert public == {name for name, _ in rows(section(METHODS, "`Split`"))}


def test_the_class_variables_and_parameters_of_the_bases_stand_there() -> None:
    annotated = {**Method.__annotations__, **GradientMethod.__annotations__}
    variables = {name for name, kind in annotated.items() if str(kind).startswith("ClassVar")}
    assert variables == {name for name, _ in rows(section(METHODS, "Class variables"))}
    for name, default in rows(section(METHODS, "Class variables")):
        assert literal_eval(default) == getattr(Method, name, getattr(GradientMethod, name)), name
    lent = dict(rows(section(METHODS, "`GradientMethod`")))
    assert set(annotated) - variables <= set(lent)
    for name, said in lent.items():
        assert hasattr(GradientMethod, name) or name in annotated, name
        assert name not in annotated or said == str(getattr(GradientMethod, name)), name


def test_the_shipped_methods_stand_there_in_their_own_words() -> None:
    shipped = [read_method(path) for path in sorted((ROOT / "methods").glob("*.py"))]
    table = section(METHODS, "The shipped methods")
    for method in shipped:
        paper = "this project" if method.paper is None else method.paper.short
        assert f"| `{method.name}` | {paper} | {method.about} |" in table
    groups, _, each = table.partition("Each with the description in its file")
    names = {method.name for method in shipped}
    assert {name for name, _ in rows(each)} == names
    assert sorted(first_cells(groups)) == sorted(names)


def test_the_shipped_protocols_stand_there(project: Project) -> None:
    assert sorted(first_cells(section(PROTOCOLS, "The shipped ones"))) == sorted(project.protocols())


def test_the_methods_without_a_learning_rate_are_named(project: Project) -> None:
    methods = [project.method(name) for name in project.methods()]
    without = {one.name for one in methods if all(field.name != "learning_rate" for field in one.parameters)}
    named = "`zero_shot`, `exp_clip`, `linear_probe`, `even_probe`, `nearest_prototype`, `knn`, `t3a`"
    assert set(re.findall(r"\w+", named)) == without
    for page in (METHODS, PROTOCOLS):
        assert named in " ".join(page.split())


def test_expressions_are_named_in_their_order() -> None:
    assert ", ".join(EXPRESSIONS) in " ".join(METHODS.split())


# ---------------------------------------------------------------------------------------------------------- examples


def test_the_method_files_on_the_pages_run(project: Project, bench: Bench) -> None:
    (short,) = blocks((ROOT / "README.md").read_text(), "python")
    whole, on_cafe = blocks(METHODS, "python")[:2]
    (project.root / "methods").mkdir()
    (project.root / "methods" / "my_idea.py").write_text(short)
    (project.root / "methods" / "two_views.py").write_text(whole)
    (project.root / "methods" / "smooth_cafe.py").write_text(on_cafe)
    names = ("--method", "my_idea", "--method", "two_views", "--method", "smooth_cafe")
    result = bench("run", *names, "--protocol", "smoke", "--targets", "web", "--jobs", "0", "--no-track")
    assert result.code == 0, result.err
    assert "3 runs done" in result.err


@pytest.mark.parametrize(("page", "runs"), [("README.md", 12), ("docs/protocols.md", 8)])
def test_the_protocols_on_the_pages_come_to_what_they_say(project: Project, page: str, runs: int) -> None:
    path = project.root / "gates.yaml"
    path.write_text(blocks((ROOT / page).read_text(), "yaml")[0])
    protocol = read_protocol(path)
    planned = outline(protocol, "gates.yaml", project.suite("synth5"), [project.method("cafe")], Request())
    assert len(planned.outlines) == runs
    assert {"README.md": "twelve runs", "docs/protocols.md": "8 runs"}[page] in (ROOT / page).read_text()


def test_the_other_yaml_on_the_page_is_as_it_says(project: Project) -> None:
    _, methods, shifts = blocks(PROTOCOLS, "yaml")
    for line in methods.splitlines():
        (project.root / "p.yaml").write_text(f"about: x\n{line}\n")
        assert read_protocol(project.root / "p.yaml").method
    (project.root / "p.yaml").write_text(f"about: x\n{shifts}")
    assert read_protocol(project.root / "p.yaml").shifts == Corruptions(factors={"blur": None, "occlusion-eyes": None})
    (project.root / "p.yaml").write_text("about: x\nmethod: [linear_probe, {cafe: {epochs: 3}}]\n")
    with pytest.raises(fergen_bench.BenchError, match=r"p\.yaml:2: method"):
        read_protocol(project.root / "p.yaml")


@pytest.mark.parametrize("page", ["README.md", "docs/configuration.md"])
def test_the_settings_on_the_pages_are_settings(page: str) -> None:
    (text,) = blocks((ROOT / page).read_text(), "toml")
    settings = Settings.model_validate(tomllib.loads(text))
    assert {"lab", "rafdb"} <= set(settings.suites["mine"].domains)
    assert settings.domains["lab"].labels == {"joy": "happiness", "contempt": ""}

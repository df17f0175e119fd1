"""Read the declarations of a method file without running it.

Plans and lists must not load torch, and must not run foreign code before its run. Therefore the parameters of a method
come from the syntax tree: the annotated fields of its dataclass, with literal defaults. The worker runs the file and
raises where the class differs from these declarations.
"""

from __future__ import annotations

import ast
import keyword
import re
import tokenize
from collections.abc import Container, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fergen_bench.error import BenchError, did_you_mean
from fergen_bench.experiment.parameter_types import Parameter, UnsupportedTypeError, type_of
from fergen_bench.experiment.reserved import refuse_reserved
from fergen_bench.experiment.shipped import base_in, digest_of_method

_BASES: Mapping[str, str] = {
    "Method": "training/contract",
    "OnlineMethod": "training/online",
    "GradientMethod": "training/loop",
    "NetworkMethod": "training/trunk",
    "TrunkMethod": "training/trunk",
    "DomainMethod": "training/trunk",
    "AlignmentMethod": "training/trunk",
    "AttentionMethod": "training/trunk",
    "AdversarialMethod": "training/adversary",
}
"""Base classes of methods → the module of each. A method inherits their fields, recipes and class variables."""

NEEDS: Mapping[str, str] = {
    "images": "images",
    "features": "frozen features",
    "text": "a backbone with a text tower",
    "file": "a file of trained weights",
}
"""The names that the class variable `needs` of a method may contain, with their meaning; images is the default."""

GROUPS = (
    "zero-shot",
    "frozen features",
    "fine-tuning",
    "FER",
    "domain generalization",
    "several sources",
    "adaptation",
    "online",
)
"""The headings of lists of methods, in their order: values of the class variable `group` of a method."""

STREAM_PARAMETERS = {"stream", "stream_batch"}
"""The parameters of an online method that describe the stream of test images: its order, and the images per batch."""

_PAPER = re.compile(r'^Source: (?P<authors>[^"]+?),? "(?P<title>[^"]+)" \((?P<venue>[^),]+)', re.MULTILINE)


@dataclass(frozen=True)
class Paper:
    """The paper of a method, from the line of its file's docstring that begins Source: AUTHORS, "TITLE" (VENUE YEAR."""

    authors: str
    title: str
    venue: str  # and year

    @property
    def short(self) -> str:
        """Venue and year; for a preprint such as arXiv 2110.04544 the year it was posted: arXiv 2021."""
        return re.sub(r"^arXiv (\d\d)\d\d\..*", r"arXiv 20\1", self.venue)


def _paper(docstring: str) -> Paper | None:
    found = _PAPER.search(re.sub(r"\n(?=\S)", " ", docstring).replace(" Source: ", "\nSource: "))
    return None if found is None else Paper(**found.groupdict())


@dataclass(frozen=True)
class MethodFile:
    """The declarations of a method file."""

    name: str
    path: Path
    about: str
    class_name: str
    version: int
    parameters: tuple[Parameter, ...]
    recipes: Mapping[str, Mapping[str, Any]]
    needs: tuple[str, ...] = ()
    learns_prior: bool = True
    least_domains: int = 1
    paper: Paper | None = None
    note: str = ""
    group: str = ""
    online: bool = False

    @property
    def requirements(self) -> str:
        """The inputs that the method needs, such as: images; two sources."""
        needs = [NEEDS[need] for need in self.needs] or [NEEDS["images"]]
        if self.least_domains > 1:
            adapts = any(parameter.name == "adapt" for parameter in self.parameters)
            needs.append("two sources" + (", or unlabelled target images" if adapts else ", or pseudo-domains"))
        if self.online:
            needs.append("a stream of unlabelled test images")
        return "; ".join(needs)

    @property
    def trains(self) -> bool:
        """True for a method with the parameters of GradientMethod, which provides the training loop."""
        return {"epochs", "batch_size", "learning_rate", "schedule"} <= {
            parameter.name for parameter in self.parameters
        }

    def adapts(self, parameters: Mapping[str, Any]) -> bool:
        """Return True where the parameter `adapt` makes the method learn from unlabelled images of the target, too."""
        return parameters.get("adapt") is True

    def lacks_prior(self, parameters: Mapping[str, Any]) -> str:
        """Return why the logits contain no class frequencies of the source that scoring could take out, or ""."""
        if not self.learns_prior:
            return "its logits contain no class frequencies of the source"
        if parameters.get("sampling") == "balanced":
            return "sampling=balanced removes the class frequencies of the source already"
        if parameters.get("logit_adjustment"):
            return f"logit_adjustment={parameters['logit_adjustment']:g} corrects for the class frequencies already"
        return ""

    def lack(self, parameters: Mapping[str, Any], sources: int) -> str | None:
        """Return a sentence where the method cannot use so few sources, else None."""
        return lack_of_domains(self.name, self.least_domains, sources, parameters)

    @property
    def digest(self) -> str:
        """SHA-256 of the method's text, stored in records so that two texts under one version are noticed."""
        return digest_of_method(self.path)

    def defaults(self, recipe: str) -> dict[str, Any]:
        """Return the default parameters: those of the class, changed by the recipe of the suite if the method has it.

        Args:
            recipe: Name of the recipe.
        """
        values = {parameter.name: parameter.default for parameter in self.parameters}
        return values | self.checked(self.recipes.get(recipe, {}), f"{self.path.name}: recipes[{recipe!r}]")

    def checked(self, changes: Mapping[str, Any], place: str) -> dict[str, Any]:
        """Return parameters with their values converted.

        Args:
            changes: Values by name.
            place: The place that set them, for errors.

        Raises:
            BenchError: A parameter does not exist, or a value has the wrong type.
        """
        known = {parameter.name: parameter for parameter in self.parameters}
        for name in changes:
            if name not in known and name in STREAM_PARAMETERS and not self.online:
                raise BenchError(
                    f"{place}: {self.name} is not an online method, so it has no parameter {name!r}; choose one that "
                    f"`fergen-bench list methods` has under online"
                )
            if name not in known:
                raise BenchError(
                    f"{place}: the method {self.name} has no parameter {name!r}{did_you_mean(name, known)}"
                )
        return {name: known[name].convert(value, place) for name, value in changes.items()}

    def completed(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters of a record, with the defaults of those that this version got after the record.

        A new parameter whose default changed a number would need a new version of the method.
        """
        return {parameter.name: parameter.default for parameter in self.parameters} | dict(parameters)


def lack_of_domains(name: str, least: int, sources: int, parameters: Mapping[str, Any]) -> str | None:
    """Return a sentence where a method needs more domains than a run has, with ways to provide them; else None.

    The domains of a run are its sources, or the number of pseudo-domains in the parameter `pseudo_domains`, and the
    unlabelled images of the target where the parameter `adapt` is true.

    Args:
        name: Name of the method.
        least: Domains that the method needs.
        sources: Sources of the run.
        parameters: Parameters of the method.
    """
    domains = (parameters.get("pseudo_domains") or sources) + (parameters.get("adapt") is True)
    if domains >= least:
        return None
    ways = ["train on several sources (--protocol leave-one-out)"]
    if "adapt" in parameters:
        ways.append("give it unlabelled images of the target (--protocol adaptation)")
    if "pseudo_domains" in parameters:
        ways.append("divide the source into pseudo-domains (--set pseudo_domains=3)")
    number = {1: "one", 2: "two"}
    return (
        f"{name} compares domains and does nothing with {number.get(domains, domains)}, it needs "
        f"{number.get(least, least)}; {', or '.join(ways)}"
    )


def read_method(path: Path, name: str | None = None) -> MethodFile:
    """Read a method file.

    Args:
        path: The file.
        name: Name of the method; without it, the stem of the file.

    Raises:
        BenchError: The file does not declare one method; the error names file and line.
    """
    text = source_text(path)
    try:
        tree = ast.parse(text, filename=str(path))
    except SyntaxError as error:
        line = "" if error.lineno is None else f":{error.lineno}"  # none for a null byte
        raise BenchError(f"{path}{line}: this method file is not valid Python: {error.msg}") from None
    except (RecursionError, MemoryError):
        raise BenchError(f"{path}: this method file has an expression that is too long for Python; divide it") from None
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and _base(node, tree, path)]
    if len(classes) != 1:
        found = "no class" if not classes else f"{len(classes)} classes"
        raise BenchError(
            f"{path}: a method file contains one class derived from {', '.join(_BASES)} or a shipped method; this one "
            f"has {found}"
        )
    (node,) = classes
    declared = _declared(node, tree, text, path)
    about = (ast.get_docstring(tree) or ast.get_docstring(node) or "").split("\n")[0]
    if declared.group not in ("", *GROUPS):
        raise BenchError(
            f"{path}: group of {node.name}: {declared.group!r} is unknown{did_you_mean(declared.group, GROUPS)}"
        )
    for need in declared.needs:
        if need not in NEEDS:
            raise BenchError(
                f"{path}: needs of {node.name}: the name {need!r} is unknown{did_you_mean(str(need), NEEDS)}"
            )
    if declared.online and (lacking := STREAM_PARAMETERS - set(declared.parameters)):
        raise BenchError(
            f"{path}: {node.name} is online and lacks the parameter {min(lacking)}; derive it from OnlineMethod, which "
            f"has it"
        )
    return MethodFile(
        name=name or path.stem,
        path=path,
        about=about,
        class_name=node.name,
        version=declared.version,
        parameters=tuple(declared.parameters.values()),
        recipes=declared.recipes,
        needs=declared.needs,
        learns_prior=declared.learns_prior,
        least_domains=declared.least_domains,
        paper=_paper(ast.get_docstring(tree) or ""),
        note=declared.note,
        group=declared.group,
        online=declared.online,
    )


def source_text(path: Path) -> str:
    """Return the text of a method file as Python reads it, in UTF-8 or the encoding that it names."""
    try:
        with tokenize.open(path) as file:
            return file.read()
    except (OSError, UnicodeDecodeError, SyntaxError) as error:
        raise BenchError(f"{path}: cannot be read: {error}") from None


@dataclass(frozen=True)
class _Declared:
    """The fields and class variables of a class, with inherited ones."""

    version: int
    parameters: Mapping[str, Parameter]
    recipes: Mapping[str, Mapping[str, Any]]
    needs: tuple[str, ...]
    learns_prior: bool
    least_domains: int
    note: str
    group: str
    online: bool


def _declared(node: ast.ClassDef, tree: ast.Module, text: str, path: Path) -> _Declared:
    base = _base(node, tree, path)
    inherited = (
        _Declared(1, {}, {}, (), True, 1, "", "", False) if base is None else _inherited(*base, source_text(base[0]))
    )
    own = _fields(node, text.split("\n"), path)  # a syntax tree counts no other line ends, such as a form feed
    recipes = _class_value(node, "recipes", {}, path)
    return _Declared(
        _class_value(node, "version", inherited.version, path),
        # A dataclass keeps an inherited field in its first place and takes the new default.
        {**{name: own.get(name, field) for name, field in inherited.parameters.items()}, **own},
        merged_recipes(inherited.recipes, recipes, own),
        _class_value(node, "needs", inherited.needs, path),
        _class_value(node, "learns_prior", inherited.learns_prior, path),
        _class_value(node, "least_domains", inherited.least_domains, path),
        _class_value(node, "note", inherited.note, path),
        _class_value(node, "group", inherited.group, path),
        _class_value(node, "online", inherited.online, path),
    )


def merged_recipes(
    inherited: Mapping[str, Mapping[str, Any]], own: Mapping[str, Mapping[str, Any]], declared: Container[str]
) -> dict[str, dict[str, Any]]:
    """Return the recipes of a class that names `own` and declares the fields `declared`.

    A recipe that the class names adds to the inherited recipe of that name. Of a recipe that it does not name, the
    values of fields that it declares are dropped, so that a base class never overrides a default of the class.
    """
    return {
        name: {**inherited.get(name, {}), **own[name]}
        if name in own
        else {key: value for key, value in inherited[name].items() if key not in declared}
        for name in {**inherited, **own}
    }


@cache
def _inherited(path: Path, name: str, text: str) -> _Declared:
    """Return the declarations of a base class; the text of its file is part of the key of the cache."""
    tree = ast.parse(text)
    (node,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    return _declared(node, tree, text, path)


def _base(node: ast.ClassDef, tree: ast.Module, path: Path) -> tuple[Path, str] | None:
    """Return the file and the name of the base class of a method, or None for another class.

    Raises:
        BenchError: The base class is imported from a shipped method that does not have it.
    """
    for expression in node.bases:
        known = expression.attr if isinstance(expression, ast.Attribute) else getattr(expression, "id", "")
        if known in _BASES:
            return Path(__file__).parents[1] / f"{_BASES[known]}.py", known
    found = base_in(tree, node, path)
    if found is None:
        return None
    own, name = found
    inside = ast.parse(source_text(own))
    classes = {inner.name: inner for inner in inside.body if isinstance(inner, ast.ClassDef)}
    if name not in classes:
        raise BenchError(f"{path}:{node.lineno}: {own} has no class {name!r}{did_you_mean(name, classes)}")
    return found if _base(classes[name], inside, own) else None


def _fields(node: ast.ClassDef, lines: list[str], path: Path) -> dict[str, Parameter]:
    fields = {}
    for statement in node.body:
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        annotation, name = ast.unparse(statement.annotation), statement.target.id
        if annotation.startswith("ClassVar"):
            continue
        place = f"{path}:{statement.lineno}"
        if statement.value is None:
            raise BenchError(f"{place}: the parameter {name!r} has no default; every parameter of a method needs one")
        try:
            default = ast.literal_eval(statement.value)
        except ValueError:
            raise BenchError(
                f"{place}: the default of {name!r} is not a literal; parameters are read without running the file"
            ) from None
        comment = _comment_behind(statement, lines)
        parameter = Parameter(name, annotation, default, comment)
        try:
            default = parameter.convert(default, place)
        except UnsupportedTypeError as error:
            raise BenchError(
                f"{place}: {name} has the type {annotation!r}, which parameters cannot have: {error}"
            ) from None
        refuse_reserved(name, annotation, type_of(statement.annotation), place)
        fields[name] = Parameter(name, annotation, default, comment)
    return fields


def _comment_behind(statement: ast.stmt, lines: list[str]) -> str:
    """Return the text of the comment that follows a statement on its last line, or ""."""
    last = lines[(statement.end_lineno or statement.lineno) - 1]
    behind = last.encode()[statement.end_col_offset or 0 :].decode().lstrip()  # syntax trees count bytes
    return behind.removeprefix("#").strip() if behind.startswith("#") else ""


def _class_value(node: ast.ClassDef, name: str, default: Any, path: Path) -> Any:
    for statement in node.body:
        if not isinstance(statement, ast.Assign | ast.AnnAssign):
            continue
        target = statement.target if isinstance(statement, ast.AnnAssign) else statement.targets[0]
        if isinstance(target, ast.Name) and target.id == name and statement.value is not None:
            try:
                value = ast.literal_eval(statement.value)
            except ValueError:
                raise BenchError(f"{path}:{statement.lineno}: {name} must be written as a literal") from None
            if type(value) is not type(default):
                raise BenchError(f"{path}:{statement.lineno}: {name} must be a {type(default).__name__}, not {value!r}")
            return value
    return default


def valid_name(name: str) -> bool:
    """Return True for a name that can be a file name, a Python module and a word in a command."""
    return name.replace("-", "_").isidentifier() and not keyword.iskeyword(name)

"""What the user meets when the input is bad: one sentence with the thing, the place and the next step."""

from __future__ import annotations

import errno
import json
import re
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fergen_bench.wording import listed

if TYPE_CHECKING:
    from pydantic import ValidationError


class BenchError(Exception):
    """Bad input. The command prints the sentence and exits with 2; `--debug` shows where it was raised."""


class NeedsKey(BenchError):
    """Bad input that a key of the settings mends: the sentence names it as bench.toml writes it, and on_command_line as
    `data prepare` takes it.
    """

    def __init__(self, fault: str, in_toml: str, on_command_line: str) -> None:
        super().__init__(f"{fault} {in_toml}")
        self.on_command_line = f"{fault} {on_command_line}"


class RunError(BenchError):
    """Bad input that shows in one run and says nothing about the others, such as a loss that diverges on one source."""


class NoRoom(BenchError):
    """The disk is full: no run can be saved before somebody makes room."""


FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What a full disk, a full quota and a limit on a file's size are called."""
_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def circumstance(error: BaseException) -> BenchError | None:
    """What the machine would not give, as a sentence: room, a right, memory. None where the error is another one."""
    kind, said = type(error).__name__, str(error)
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename is not None else ""
        if error.errno in FULL:
            return NoRoom(
                f"{place}the disk or your quota is full ({error.strerror}); make room there and give the same command "
                f"again: what has a record is kept"
            )
        if error.errno in _DENIED:
            return BenchError(
                f"{place}{error.strerror}; give yourself the right to it, or say in bench.toml where results and cache "
                f"may go"
            )
        if error.errno == errno.EMFILE:
            return BenchError(f"{place}{error.strerror}; lower --jobs, or allow more with ulimit -n")
    if kind == "BrokenProcessPool":
        return BenchError(
            "a process that worked for this command was ended from outside, probably for want of memory; give the same "
            "command again, with less beside it"
        )
    if kind == "OutOfMemoryError":
        return RunError(
            "the GPU ran out of memory; lower batch_size (--set batch_size=16) or --jobs, or close what else uses it"
        )
    if isinstance(error, MemoryError) or "DefaultCPUAllocator" in said:
        return RunError("the machine ran out of memory; lower --jobs, or batch_size (--set batch_size=16)")
    return None


def reason(error: BaseException, line: Literal["first", "last"] = "first") -> str:
    """A line of what another library's error says, or its kind where it says nothing. Of a traceback the last says
    most.
    """
    plain = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", str(error))  # without the colours that some libraries write
    said = [text.strip() for text in plain.splitlines() if text.strip()]
    if not said:
        return type(error).__name__
    return textwrap.shorten(said[0 if line == "first" else -1], 240, placeholder=" …")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a sentence: "; did you mean cafe?", or the known names where none is near, or a full stop where there
    are none.
    """
    import difflib

    known = sorted(set(known))
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]}?"
    return f"; there {'is' if len(known) == 1 else 'are'} {listed(known)}." if known else "."


def _is_kind(part: str) -> bool:
    """Whether a part of a place is no key, but which kind of a union of types was tried."""
    return part in {"str", "int", "float", "bool"} or part.startswith(
        ("literal[", "list[", "constrained-", "function-")
    )


_TAKES = {
    "string": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "list": "a list",
    **dict.fromkeys(("dict", "model", "dataclass"), "a table of keys and values"),
}
"""How pydantic's names of wrong kinds begin → what is wanted there, in plain words."""


def _wanted(kind: str) -> str | None:
    """What a value of the wrong kind should have been, or None. kind: pydantic's name of the fault."""
    if kind == "is_instance_of":
        return "a text"  # only paths are kept as objects of a class
    return _TAKES.get(kind.partition("_")[0]) if kind.endswith(("_type", "_parsing", "_from_float")) else None


def explain(
    error: ValidationError, place: Path | str, lines: dict[tuple[str, ...], int], known: dict[str, Iterable[str]]
) -> str:
    """The first fault of a validated file as a sentence with file, line and key; of several, an unknown key, since what
    is misspelt is often what is missed elsewhere.

    lines: where each key stands (1-based), by its path. known: the names that exist at a place ("" is the top, "a.*"
    every table in a), for "did you mean".
    """
    faults = error.errors()
    # Of a name or a list, what is wrong with the list is said where a list is given.
    fault = next((f for f in faults if f["type"] != "literal_error" or isinstance(f["input"], str)), faults[0])
    unknown = {"extra_forbidden", "unexpected_keyword_argument"}
    fault = next((f for f in faults if f["type"] in unknown), fault)
    path = [part for part in fault["loc"] if not (isinstance(part, str) and _is_kind(part))]
    keys = tuple(str(part) for part in path)
    line = next((lines[keys[:n]] for n in range(len(keys), -1, -1) if keys[:n] in lines), None)
    if line is None:  # a table may stand in the file only as part of others' names
        line = min((number for at, number in lines.items() if keys and at[: len(keys)] == keys), default=None)
    where = f"{place}:{line}" if line else f"{place}"
    key = ".".join(keys) or "the file"
    others = error.error_count() - 1
    if fault["type"] in unknown:
        names = known.get(".".join(keys[:-1]), known.get(f"{keys[0]}.*", ()))
        meant = did_you_mean(keys[-1], names)
        # A key that is missing because it is misspelt here is no second fault.
        beside = ([str(f["loc"][-1])] for f in faults if f["type"] == "missing" and f["loc"][:-1] == fault["loc"][:-1])
        others -= sum(meant == did_you_mean(keys[-1], absent) for absent in beside)
        return f"{where}: there is no key {key!r}{meant}{_and_more(others)}"
    more = _and_more(others)
    if isinstance(fault["input"], dict) and len(keys) == 1 and f"{key}s" in known.get("", ()):
        table = ".".join((key, *list(fault["input"])[:1]))
        return f"{where}: there is no table [{table}]; did you mean [{table.replace(key, f'{key}s', 1)}]?{more}"
    if fault["type"] == "missing":
        return f"{where}: the key {key!r} is missing{more}"
    if fault["type"] == "too_short" and not fault["input"]:
        return f"{where}: {key}: names nothing; name one or more, or leave the key out"
    if fault["type"] == "literal_error" and isinstance(fault["input"], str):
        # A union has a fault for each of its kinds; this one says it all.
        more = "" if all(other["loc"][: len(path)] == tuple(path) for other in faults) else more
        names = re.findall(r"'([^']*)'", str(fault.get("ctx", {}).get("expected", "")))
        return f"{where}: {key}: there is no {fault['input']!r}{did_you_mean(fault['input'], names)}{more}"
    given = repr(fault["input"]) if isinstance(fault["input"], str) else _as_written(fault["input"])
    given = given if len(given) <= 200 else f"{given[:200]}…"
    if (wanted := _wanted(fault["type"])) is not None:
        return f"{where}: {key}: takes {wanted}, not {given}{more}"
    message = re.sub("^Input should be", "must be", fault["msg"].removeprefix("Value error, "))
    # What is wrong inside a list or a table is said by the message itself.
    ending = "" if fault["type"] == "value_error" and isinstance(fault["input"], list | dict) else f", not {given}"
    return f"{where}: {key}: {message[0].lower()}{message[1:]}{ending}{more}"


def _as_written(value: object) -> str:
    """Return a value as it stands in YAML or TOML, not in Python: true, null, ["a", 1]."""
    return json.dumps(value, ensure_ascii=False, default=str)


def _and_more(others: int) -> str:
    return f" (and {others} more)" if others > 0 else ""

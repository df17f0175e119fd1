"""Errors for users: one sentence with the thing, the place and the next step."""

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
    """Report bad input. The command prints the message and exits with 2; `--debug` adds the traceback."""


class NeedsKey(BenchError):
    """Report bad input that one more setting corrects.

    Attributes:
        on_command_line: The message for a user of `data prepare`, where the setting is an option. The message of the
            exception itself is for bench.toml, where it is a key.
    """

    def __init__(self, fault: str, in_toml: str, on_command_line: str) -> None:
        """Combine a fault with the next step in each of the two places.

        Args:
            fault: The beginning of the sentence.
            in_toml: Its end where the setting is a key of bench.toml.
            on_command_line: Its end where the setting is an option.
        """
        super().__init__(f"{fault} {in_toml}")
        self.on_command_line = f"{fault} {on_command_line}"


class RunError(BenchError):
    """Report bad input that affects a single run, such as a loss that diverges on one source."""


class NoRoom(BenchError):
    """Report a full disk, which prevents every run from being saved."""


FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""The errno of a full disk, of a full quota and of a limit on the size of a file."""
_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_UNFIT = frozenset({errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP})
"""The errno of a name that is too long, of a file in place of a folder and the reverse, and of links in a circle."""


def circumstance(error: BaseException) -> BenchError | None:
    """Return an error of the machine (disk space, permissions, memory) with a message for the user.

    Args:
        error: Any exception.

    Returns:
        The error with its next step; None if the exception has another cause.
    """
    kind = type(error).__name__
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename is not None else ""
        if error.errno in FULL:
            return NoRoom(
                f"{place}the disk or your quota is full ({error.strerror}); free some space and repeat the command: "
                f"finished runs are not repeated"
            )
        if error.errno in _DENIED:
            return BenchError(
                f"{place}{error.strerror}; change the permissions, or set `results` and `cache` in bench.toml to other "
                f"folders"
            )
        if error.errno == errno.EMFILE:
            return BenchError(f"{place}{error.strerror}; lower --jobs, or raise the limit with ulimit -n")
    if kind == "BrokenProcessPool":
        return BenchError(
            "a worker process was killed from outside, probably because memory ran out; close other programs and "
            "repeat the command"
        )
    if kind == "OutOfMemoryError":
        return RunError(
            "the GPU ran out of memory; lower batch_size (--set batch_size=16) or --jobs, or close other programs that "
            "use the GPU"
        )
    if isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error):
        return RunError("the machine ran out of memory; lower --jobs, or batch_size (--set batch_size=16)")
    return None


def unfit(error: BaseException) -> BenchError | None:
    """Return an error about a path that cannot exist with a message for its user, or None for other errors.

    It is no `circumstance`: a path in a method's file is a fault of that file, and not of the machine.
    """
    if not isinstance(error, OSError) or error.errno not in _UNFIT or error.filename is None:
        return None
    shown = str(error.filename)
    where = shown if len(shown) <= 200 else f"…{shown[-200:]}"
    return BenchError(f"{where}: {error.strerror}; give another name or folder")


def reason(error: BaseException, line: Literal["first", "last"] = "first") -> str:
    """Return one line of an error of another library.

    Args:
        error: The exception.
        line: The line to return. In a message that contains a traceback, the last line is the most informative one.

    Returns:
        The line, shortened to 240 characters; the name of the exception's type if the message is empty.
    """
    plain = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", str(error))  # without the colours that some libraries write
    lines = [text.strip() for text in plain.splitlines() if text.strip()]
    if not lines:
        return type(error).__name__
    return textwrap.shorten(lines[0 if line == "first" else -1], 240, placeholder=" …")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of a sentence about an unknown name.

    Names are compared without regard to case, blanks and punctuation, so RAF-DB is rafdb; + reads as plus.

    Args:
        name: The unknown name.
        known: The names that exist.

    Returns:
        "; did you mean cafe?" if a known name is similar, else a list of the known names, and "." if there are none.
    """
    known = sorted(set(known))
    if (meant := similar(name, known)) is not None:
        return f"; did you mean {meant}?"
    return f"; there {'is' if len(known) == 1 else 'are'} {listed(known)}." if known else "."


def similar(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the known name that is most like another one, compared as in `did_you_mean`; None where none is.

    Args:
        name: The name.
        known: The names that exist.
        cutoff: The least similarity, from 0 to 1, see `difflib.get_close_matches`.
    """
    import difflib

    spelled = {_squeezed(other): other for other in known}
    return next((spelled[near] for near in difflib.get_close_matches(_squeezed(name), spelled, 1, cutoff)), None)


def _squeezed(name: str) -> str:
    """Return a name in lower case without blanks and punctuation, with + as plus."""
    return re.sub(r"[\W_]", "", name.casefold().replace("+", "plus")) or name


def _is_kind(part: str) -> bool:
    """Return whether a part of a pydantic location is a member of a union instead of a key."""
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
"""Beginnings of the names of pydantic's type errors → the expected value in plain words."""


def _wanted(kind: str) -> str | None:
    """Return the expected kind of value for the name of a pydantic error, or None for other errors."""
    if kind == "is_instance_of":
        return "a text"  # paths are the only settings that are instances of a class
    return _TAKES.get(kind.partition("_")[0]) if kind.endswith(("_type", "_parsing", "_from_float")) else None


def explain(
    error: ValidationError, place: Path | str, lines: dict[tuple[str, ...], int], known: dict[str, Iterable[str]]
) -> str:
    """Return the most useful fault of a file that failed validation, as a sentence with file, line and key.

    Of several faults an unknown key comes first, since a misspelt key often causes a missing one.

    Args:
        error: The faults that pydantic found.
        place: The file.
        lines: The line (1-based) of each key, by its path.
        known: The keys that exist in a table, for "did you mean": "" is the top level, "a.*" is every table in a.
    """
    faults = error.errors()
    # For a union of names and lists, the fault of the names is relevant only if the value is a string.
    fault = next((f for f in faults if f["type"] != "literal_error" or isinstance(f["input"], str)), faults[0])
    unknown = {"extra_forbidden", "unexpected_keyword_argument"}
    fault = next((f for f in faults if f["type"] in unknown), fault)
    path = _in_file(fault["loc"], lines, named=fault["type"] in {"missing", *unknown})
    keys = tuple(str(part) for part in path)
    if path and isinstance(path[-1], int) and keys not in lines and keys[:-1] in lines:
        path, keys = path[:-1], keys[:-1]  # the file has one value where a list of values could stand, and no item 0
    line = next((lines[keys[:n]] for n in range(len(keys), -1, -1) if keys[:n] in lines), None)
    if line is None:  # a table may occur in the file only as part of the names of other tables
        line = min((number for at, number in lines.items() if keys and at[: len(keys)] == keys), default=None)
    where = f"{place}:{line}" if line else f"{place}"
    key = ".".join(keys) or "the file"
    others = error.error_count() - 1
    if fault["type"] in unknown:
        names = known.get(".".join(keys[:-1]), known.get(f"{keys[0]}.*", ()))
        meant = did_you_mean(keys[-1], names)
        # A key that is missing because it is misspelt here does not count as a second fault.
        missing = ([str(f["loc"][-1])] for f in faults if f["type"] == "missing" and f["loc"][:-1] == fault["loc"][:-1])
        others -= sum(meant == did_you_mean(keys[-1], absent) for absent in missing)
        return f"{where}: there is no key {key!r}{meant}{_and_more(others)}"
    more = _and_more(others)
    if isinstance(fault["input"], dict) and len(keys) == 1 and f"{key}s" in known.get("", ()):
        table = ".".join((key, *list(fault["input"])[:1]))
        return f"{where}: there is no table [{table}]; did you mean [{table.replace(key, f'{key}s', 1)}]?{more}"
    if fault["type"] == "missing":
        return f"{where}: the key {key!r} is missing{more}"
    if fault["type"] == "too_short" and not fault["input"]:
        return f"{where}: {key}: the list is empty; add at least one entry, or remove the key"
    if fault["type"] == "literal_error" and isinstance(fault["input"], str):
        # A union has one fault for each of its members; this one is enough.
        more = "" if all(other["loc"][: len(path)] == tuple(path) for other in faults) else more
        names = re.findall(r"'([^']*)'", str(fault.get("ctx", {}).get("expected", "")))
        return f"{where}: {key}: there is no {fault['input']!r}{did_you_mean(fault['input'], names)}{more}"
    given = repr(fault["input"]) if isinstance(fault["input"], str) else _as_written(fault["input"])
    given = given if len(given) <= 200 else f"{given[:200]}…"
    if (wanted := _wanted(fault["type"])) is not None:
        return f"{where}: {key}: takes {wanted}, not {given}{more}"
    message = re.sub("^Input should be", "must be", fault["msg"].removeprefix("Value error, "))
    # For a list or a table the message itself contains the invalid part.
    ending = "" if fault["type"] == "value_error" and isinstance(fault["input"], list | dict) else f", not {given}"
    return f"{where}: {key}: {message[0].lower()}{message[1:]}{ending}{more}"


def _in_file(location: tuple[int | str, ...], lines: dict[tuple[str, ...], int], named: bool) -> list[int | str]:
    """Return a pydantic location without the members of unions, which the file does not contain.

    Args:
        location: Keys, positions in lists and members of unions, from the outside to the inside.
        lines: The line of each key, by its path. A file may have a key that is called like a member of a union.
        named: Whether the last part is a key for certain.
    """
    path: list[int | str] = []
    for n, part in enumerate(location, start=1):
        kept = (*map(str, path), str(part)) in lines or (named and n == len(location))
        if kept or not (isinstance(part, str) and _is_kind(part)):
            path.append(part)
    return path


def _as_written(value: object) -> str:
    """Return a value in the notation of YAML and TOML: true, null, ["a", 1]."""
    return json.dumps(value, ensure_ascii=False, default=str)


def _and_more(others: int) -> str:
    return f" (and {others} more)" if others > 0 else ""

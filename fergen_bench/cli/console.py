"""The consoles of the command line, which write text in every encoding."""

from __future__ import annotations

import codecs
import io
import sys
import unicodedata
from typing import TYPE_CHECKING, Any

from fergen_bench.files.bounded import printable

if TYPE_CHECKING:
    from rich.console import Console


_PLAIN = str.maketrans(
    {
        "—": "-",
        "–": "-",
        "−": "-",
        "·": "-",
        "•": "-",
        "±": "+/-",
        "×": "x",
        "…": "...",
        "→": "->",
        "←": "<-",
        "≥": ">=",
        "≤": "<=",
        "“": '"',
        "”": '"',
        "‘": "'",
        "’": "'",
        "━": "-",
        "╸": "-",
        "╺": "-",
    }
)
"""The replacement of a character that an encoding lacks. A letter with an accent becomes the letter."""


def plain(text: str) -> str:
    """Return a text in ASCII, with a readable equivalent for every other character, and ? where none exists."""
    known = unicodedata.normalize("NFKD", printable(text).translate(_PLAIN))
    letters = (letter for letter in known if not unicodedata.combining(letter))
    return "".join(letter if letter.isascii() else "?" for letter in letters)


def _encoded_plainly(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that an encoding lacks by ASCII: an error handler of codecs."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return plain(error.object[error.start : error.end]), error.end


def write_any_encoding() -> None:
    """Let standard output and standard error accept every text, whatever the encoding of the terminal or pipe."""
    codecs.register_error("fergen-bench-plain", _encoded_plainly)
    codecs.register(_plain_ascii)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            ascii_only = codecs.lookup(stream.encoding).name == "ascii"
            # click assumes that an encoding called ascii is a misconfiguration, and writes UTF-8.
            stream.reconfigure(encoding=_ASCII if ascii_only else None, errors="fergen-bench-plain")


_ASCII = "fergen_bench_ascii"


def _plain_ascii(name: str) -> codecs.CodecInfo | None:
    """Return the codec of ASCII under another name."""
    known = codecs.lookup("ascii")
    if name != _ASCII:
        return None
    return codecs.CodecInfo(
        known.encode,
        known.decode,
        known.streamreader,
        known.streamwriter,
        known.incrementalencoder,
        known.incrementaldecoder,
        name,
    )


def console_on(stderr: bool = False) -> Console:
    """Return a console without markup: standard output for results, standard error for progress and remarks.

    Sentences in a pipe or a log have no line breaks, which would break a command or a path in two.
    """
    from rich.console import Console, Group
    from rich.text import Text

    class PipeConsole(Console):
        def print(self, *objects: Any, **options: Any) -> None:
            if not self.is_terminal:
                if len(objects) == 1 and isinstance(objects[0], Group):
                    for part in objects[0].renderables:  # such as a table and the notes below it
                        self.print(part, **options)
                    return
                if all(isinstance(one, str | Text) for one in objects):
                    options.setdefault("soft_wrap", True)
            super().print(*objects, **options)

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # main() exits with the status of SIGPIPE; rich would exit with 1

    return PipeConsole(stderr=stderr, highlight=False, markup=False)

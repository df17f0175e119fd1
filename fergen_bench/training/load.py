"""Load a method class from its file."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from fergen_bench.error import BenchError
from fergen_bench.experiment.shipped import IMPORTABLE, methods_behind
from fergen_bench.training.contract import Method
from fergen_bench.wording import listed


def load_method(path: Path, class_name: str, parameters: Mapping[str, Any]) -> Method:
    """Execute a method file and return an instance of its method.

    Args:
        path: The method file.
        class_name: Name of the method class in the file.
        parameters: A value for every field of the class.

    Raises:
        BenchError: The file fails to load, its class lacks a function of its base class, or the class differs from what
            was read in the file without executing it.
    """
    spec = importlib.util.spec_from_file_location(f"fergen_bench_method_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look up the module of a class
    _forget_methods(path)
    try:
        spec.loader.exec_module(module)
        found = getattr(module, class_name)
        if lacking := sorted(getattr(found, "__abstractmethods__", ())):
            one = len(lacking) == 1
            raise BenchError(
                f"{path}: {class_name} lacks the {'method' if one else 'methods'} {listed(lacking)}; write "
                f"{'it' if one else 'them'}, as the base class {found.__mro__[1].__name__} requires"
            )
        method = found(**parameters)
    except BenchError:
        raise
    except Exception as error:
        line = _line_in(path, error)
        raise BenchError(
            f"{path}{f':{line}' if line else ''}: this method file fails to load: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(method, Method):
        raise BenchError(
            f"{path}: {class_name} is not a Method; derive it from fergen_bench.Method or fergen_bench.GradientMethod"
        )
    if method.online and not callable(getattr(method, "reset", None)):
        raise BenchError(
            f"{path}: {class_name} is online and lacks the method reset, which forgets a target; derive it from "
            f"fergen_bench.OnlineMethod"
        )
    if sorted(f.name for f in fields(method)) != sorted(parameters):
        raise BenchError(
            f"{path}: {class_name} must be a dataclass with its fields written out in the class; put @dataclass above"
        )
    return method


def _forget_methods(path: Path) -> None:
    """Let a method file import the shipped methods behind it anew, because their files may have been edited."""
    for name in methods_behind(path):
        sys.modules.pop(f"{IMPORTABLE}.{name}", None)
        if (package := sys.modules.get(IMPORTABLE)) is not None:
            vars(package).pop(name, None)


def _line_in(path: Path, error: Exception) -> int | None:
    trace, line = error.__traceback__, None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return getattr(error, "lineno", None) or line

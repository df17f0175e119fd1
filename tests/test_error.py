"""Errors of the machine become one sentence: memory, and killed processes."""

from __future__ import annotations

import errno
from concurrent.futures.process import BrokenProcessPool

import pytest
import torch

from fergen_bench.datasets import NAMES
from fergen_bench.error import BenchError, NoRoom, RunError, circumstance, did_you_mean, unfit


def test_torch_out_of_memory_on_the_cpu_is_a_sentence() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert type(circumstance(caught.value)) is RunError


@pytest.mark.parametrize(
    ("name", "known"),
    [
        *(("RAF-DB", "rafdb"), ("RAFDB", "rafdb"), ("raf_db", "rafdb"), ("FER+", "ferplus"), ("FERPlus", "ferplus")),
        *(("FER 2013", "fer2013"), ("SFEW 2.0", "sfew"), ("AffectNet-7", "affectnet"), ("CK+", "ckplus")),
        *(("CAER_S", "caer-s"), ("Mma ExpW", "mma-expw"), ("KDEF", "kdef"), ("Exp-W", "expw")),
    ],
)
def test_names_as_people_write_them_are_recognised_in_errors(name: str, known: str) -> None:
    assert did_you_mean(name, NAMES) == f"; did you mean {known}?"


def test_a_name_of_punctuation_alone_is_similar_to_nothing() -> None:
    assert did_you_mean("--", ["-x", "..."]) == "; there are -x and ...."


def test_other_errors_are_not_translated() -> None:
    assert circumstance(ValueError("x")) is None
    assert "killed from outside" in str(circumstance(BrokenProcessPool("a child process terminated abruptly")))
    assert circumstance(OSError(errno.ENOENT, "No such file", "/r")) is None


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (OSError(errno.ENOSPC, "No space left", "/r/a.npz"), NoRoom, "/r/a.npz: the disk or your quota is full"),
        (OSError(errno.EDQUOT, "Quota exceeded"), NoRoom, "the disk or your quota is full (Quota exceeded)"),
        (
            OSError(errno.EROFS, "Read-only file system", "/r"),
            BenchError,
            "/r: Read-only file system; change the permissions",
        ),
        (OSError(errno.EACCES, "Permission denied", "/r"), BenchError, "/r: Permission denied; change the permissions"),
        (OSError(errno.EMFILE, "Too many open files"), BenchError, "lower --jobs, or raise the limit with ulimit"),
        (MemoryError(), RunError, "the machine ran out of memory; lower --jobs, or batch_size"),
        (torch.OutOfMemoryError("CUDA out of memory"), RunError, "the GPU ran out of memory; lower batch_size"),
    ],
)
def test_a_lack_of_memory_or_disk_is_one_sentence(error: Exception, kind: type[BenchError], text: str) -> None:
    said = circumstance(error)
    assert type(said) is kind
    assert text in str(said)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            OSError(errno.ENAMETOOLONG, "File name too long", f"/r/{'a' * 300}.py"),
            f"…{'a' * 197}.py: File name too long; give another name or folder",
        ),
        (OSError(errno.ENOTDIR, "Not a directory", "/r/a"), "/r/a: Not a directory; give another name or folder"),
    ],
)
def test_a_path_that_cannot_exist_is_a_sentence_and_no_fault_of_the_machine(error: OSError, text: str) -> None:
    assert str(unfit(error)) == text
    assert circumstance(error) is None  # in a method's file, it fails one run and not all of them

"""bench.toml as validated settings."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_project import write

from fergen_bench.error import BenchError
from fergen_bench.experiment.project import find_project


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("suite = \n", r"bench\.toml:1: this is not valid TOML"),
        ('\nsuit = "x"\n', r"bench\.toml:2: there is no key 'suit'; did you mean suite\?"),
        ("float = 3\n", r"bench\.toml:1: there is no key 'float'"),
        ("[domains.int]\npth = 3\n", r"bench\.toml:2: there is no key 'domains\.int\.pth'; did you mean path\?"),
        ("[suites.bool]\ndomains = 'a'\n", r"bench\.toml:2: suites\.bool\.domains: takes a list, not 'a'$"),
        ('jobs = "two"\n', r"bench\.toml:1: jobs: takes a whole number, not 'two'"),
        ("device = 'tpu'\n", r"bench\.toml:1: device: .*not 'tpu'"),
        ("[domains.a]\n", r"bench\.toml:1: the key 'domains\.a\.path' is missing"),
        (
            '[domains.a]\npath = "x"\nlabel = {}\n',
            r"bench\.toml:3: there is no key 'domains\.a\.label'; did you mean labels\?",
        ),
        (
            '[domains.a]\npath = "x"\nlabels = {joy = "joyful"}\n',
            r"bench\.toml:3: domains\.a\.labels: joy is mapped to 'joyful'",
        ),
        ("[suites.s]\ndomains = []\n", r"bench\.toml:2: suites\.s\.domains"),
        ('[domains.web]\npath = "x"\n', r"'web' is a name that comes with the package"),
        ('[domains."no name"]\npath = "x"\n', r"'no name' cannot be a name"),
        (
            '[suites.s]\ndomains = ["a"]\noverlaps = [["a", "c"]]\n',
            r"suites\.s: overlaps names c, which is not one of its",
        ),
        ('[suites.s]\ndomains = ["a"]\nrecipe = "smal"\n', r"bench\.toml:3: suites\.s\.recipe: .*did you mean small\?"),
        ('[domains.a]\npath = "x"\nsubject = "("\n', r"bench\.toml:3: domains\.a\.subject: this is not a regular expr"),
        *(
            (f'[domains.a]\npath = "x"\nsubject = "{pattern}"\n', rf"bench\.toml:3: domains\.a\.subject: .*: {why}")
            for pattern, why in [
                ("(a{99999999999})", "the repetition number is too large"),
                ("(" * 5000 + ")" * 5000, "maximum recursion depth exceeded"),
            ]
        ),
        ('[tracking]\nurl = "x"\n', r"bench\.toml:2: there is no key 'tracking\.url'; did you mean uri\?"),
        (
            'suite = "synth5"\n[domains.a]\npth = "x"\n',
            r"bench\.toml:3: there is no key 'domains\.a\.pth'; did you mean path\?$",
        ),
        (
            '[domains.a]\n[domains.b]\npath = "x"\nlabells = {}\n',
            r"bench\.toml:4: there is no key 'domains\.b\.labells'; did you mean labels\? \(and 1 more\)$",
        ),
        (
            'device = "cpu"\n[suite.mine]\ndomains = ["a"]\n',
            r"bench\.toml:2: there is no table \[suite\.mine\]; did you mean \[suites\.mine\]\?$",
        ),
        ("[domains.a]\npath = 5\n", r"bench\.toml:2: domains\.a\.path: takes a text, not 5$"),
        ('[suites.s]\ndomains = ["a"]\nbackbone = true\n', r"bench\.toml:3: suites\.s\.backbone: .* a text, not true$"),
        ('[suites.s]\ndomains = "a"\n', r"bench\.toml:2: suites\.s\.domains: takes a list, not 'a'$"),
        ('[domains]\na = "x"\n', r"bench\.toml:2: domains\.a: takes a table of keys and values, not 'x'$"),
        ('save_every = "long"\n', r"bench\.toml:1: save_every: takes a number, not 'long'$"),
        (
            '[suites.s]\ndomains = ["a"]\nabout = """\nprofile = 1\n[tracking]\n"""\nprofile = 5\n',
            r"bench\.toml:7: suites\.s\.profile: takes a text, not 5$",
        ),
        ("\ntracking.uri = 3\n", r"bench\.toml:2: tracking\.uri: takes a text, not 3$"),
        (
            '[suites."my s"]\ndomains = [\n  "a",\n  7,\n]\n',
            r"bench\.toml:4: suites\.my s\.domains\.1: takes a text, not 7$",
        ),
        (
            '[domains]\nb = { path = "x", size = "big" }\n',
            r"bench\.toml:2: domains\.b\.size: takes a whole number, not 'big'",
        ),
        ("jobs = -1\n", r"bench\.toml:1: jobs: must be greater than or equal to 0, not -1$"),
        (
            '[suites.s]\ndomains = ["a", "a", "b"]\n',
            r"bench\.toml:2: suites\.s\.domains: names a twice; name each domain once$",
        ),
    ],
)
def test_a_fault_in_bench_toml_is_named_with_line_and_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BenchError, match=message):
        _ = write(tmp_path, text).settings


def test_an_unknown_split_profile_is_refused(tmp_path: Path) -> None:
    text = '[domains.a]\npath = "x"\ndataset = "sfew"\n[suites.mine]\ndomains = ["a"]\nprofile = "%s"\n'
    assert write(tmp_path, text % "cafe").suite("mine").profile == "cafe"
    message = r"bench.toml: suites.mine.profile: .* has a profile 'caffe'; did you mean cafe\?"
    with pytest.raises(BenchError, match=message):
        write(tmp_path, text % "caffe").suite("mine")


def test_a_pattern_that_later_versions_of_python_may_read_otherwise_is_taken(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    (tmp_path / "bench.toml").write_text("[domains.a]\npath = 'x'\nsubject = '^([[:alpha:]]+)'\n")
    assert find_project(tmp_path).settings.domains["a"].subject == "^([[:alpha:]]+)"
    assert not recwarn.list

"""A protocol with a suite and methods becomes runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT
from fergen_bench.data.suite import Suite
from fergen_bench.error import BenchError
from fergen_bench.experiment.method_file import read_method
from fergen_bench.experiment.outline import Outline, Request, outline
from fergen_bench.experiment.protocol import Protocol
from fergen_bench.experiment.run import Run

SUITE = Suite("s", ("a", "b", "c"), "synth", "synth-trunk", recipe="small", synthetic=True)


CAFE, PROBE = read_method(ROOT / "methods" / "cafe.py"), read_method(ROOT / "methods" / "linear_probe.py")
CORAL, IRM = read_method(ROOT / "methods" / "coral.py"), read_method(ROOT / "methods" / "irm.py")
T3A = read_method(ROOT / "methods" / "t3a.py")


ADAPTED = {"variants": {"adapted": {"adapt": True}}, "seeds": [0]}


NOTHING = Request()


def plan(
    protocol: dict[str, Any], request: Request = NOTHING, methods: Any = (CAFE,), suite: Suite = SUITE
) -> tuple[Run, ...]:
    """Return the runs of a protocol."""
    return tuple(one.run for one in outlines(protocol, request, methods, suite))


def outlines(
    protocol: dict[str, Any], request: Request = NOTHING, methods: Any = (CAFE,), suite: Suite = SUITE
) -> tuple[Outline, ...]:
    return outline(Protocol.model_validate({"about": "x", **protocol}), "p.yaml", suite, methods, request).outlines


def test_leave_none_trains_each_domain_alone_and_scores_all() -> None:
    runs = plan({"seeds": [0, 1]})
    assert [(run.sources, tuple(run.targets), run.seed) for run in runs[:3]] == [
        ((s,), ("a", "b", "c"), 0) for s in "abc"
    ]
    assert len(runs) == 6


def test_leave_one_out_trains_on_all_but_the_target() -> None:
    runs = plan({"sources": "all-but-target", "seeds": [0]})
    assert [(run.sources, tuple(run.targets)) for run in runs] == [
        (("b", "c"), ("a",)),
        (("a", "c"), ("b",)),
        (("a", "b"), ("c",)),
    ]


def test_the_order_of_a_suites_domains_changes_neither_numbers_nor_record() -> None:
    found = []
    for domains in (("a", "b", "c"), ("c", "b", "a")):
        suite = Suite("s", domains, "synth", "synth-trunk", recipe="small", synthetic=True)
        (run,) = plan({"sources": "all-but-target", "seeds": [0]}, Request(targets=["b"]), suite=suite)
        found.append(run.with_fingerprints(dict.fromkeys("abc", "1")))
    first, second = found
    assert first.sources == second.sources == ("a", "c")
    assert (first.key, first.path(Path())) == (second.key, second.path(Path()))


def test_the_request_overrides_the_protocol() -> None:
    request = Request(seeds=[5], sources=["b"], targets=["c"], selection="source-val", settings={"drop": 0.2})
    (run,) = plan({"seeds": [0, 1]}, request)
    assert (run.seed, run.sources, tuple(run.targets), run.selection) == (5, ("b",), ("c",), "source-val")
    assert run.parameters["drop"] == 0.2


def test_variants_change_parameters_and_an_empty_one_is_the_method_itself() -> None:
    found = outlines({"variants": {"full": {}, "linear": {"gate": "linear"}}, "seeds": [0]}, Request(sources=["a"]))
    assert [one.variant for one in found] == ["full", "linear"]
    runs = [one.run for one in found]
    assert runs[0].parameters == runs[0].defaults
    assert runs[1].parameters == {**runs[0].parameters, "gate": "linear"}


def test_equal_variants_are_one_run() -> None:
    request = Request(sources=["a"], seeds=[0], settings={"gate": "tanh"})
    assert len(plan({"variants": {"full": {}, "linear": {"gate": "linear"}}}, request)) == 1


def test_recipes_networks_and_caps_are_resolved() -> None:
    (run, *_) = plan({"epochs": 2})
    assert run.parameters["epochs"] == 2
    assert run.defaults["epochs"] == CAFE.recipes["small"]["epochs"]
    assert (run.parameters["backbone"], run.parameters["trunk"]) == ("synth", "synth-trunk")
    assert set(run.weights) == {"backbone", "trunk"}
    (run, *_) = plan({}, Request(settings={"trunk": "scratch"}))
    assert run.parameters["trunk"] == "synth-trunk/scratch"
    assert run.weights["trunk"] == "scratch"


def test_a_limit_is_per_method() -> None:
    runs = plan({"limit": 1}, methods=(CAFE, PROBE))
    assert [run.method for run in runs] == ["cafe", "linear_probe"]


def test_a_run_takes_fingerprints_and_relations() -> None:
    (run, *_) = plan({})
    spec = run.with_fingerprints({"a": "1", "b": "2", "c": "3"})
    assert spec.fingerprints == {"a": "1"}
    assert spec.targets == {"a": "1", "b": "2", "c": "3"}
    assert spec.relations == {"a": "source", "b": "unseen", "c": "unseen"}
    assert spec.synthetic


@pytest.mark.parametrize(
    ("protocol", "request_", "message"),
    [
        ({"targets": ["d"]}, Request(), r"p\.yaml: targets: the suite s has no domain 'd'; there are a, b and c\."),
        ({}, Request(sources=["z"]), r"--sources: the suite s has no domain 'z'"),
        (
            {"variants": {"v": {"gat": 1}}},
            Request(),
            r"p\.yaml: variants\.v: the method cafe has no parameter 'gat'; did you mean gate\?",
        ),
        ({}, Request(settings={"backbone": "sinth"}), r"--set: backbone: no network 'sinth'; did you mean synth\?"),
        ({}, Request(settings={"trunk": "timm:resnet18//no/file.pth"}), r"--set: trunk: /no/file\.pth does not exist"),
        ({}, Request(settings={"backbone": "open_clip:ViT-B-32"}), r"lacks weights; write open_clip:ViT-B-32/TAG"),
    ],
)
def test_an_impossible_request_is_refused(protocol: dict[str, Any], request_: Request, message: str) -> None:
    with pytest.raises(BenchError, match=message):
        plan(protocol, request_)


def test_a_suite_without_its_own_weights_runs_with_others() -> None:
    away = Suite("s", ("a",), "timm:resnet18//no/such/file.pth", "synth-trunk", recipe="small")
    runs = plan({"seeds": [0]}, Request(settings={"backbone": "synth"}), suite=away)
    assert runs[0].parameters["backbone"] == "synth"
    with pytest.raises(BenchError, match=r"/no/such/file\.pth does not exist"):
        plan({"seeds": [0]}, suite=away)


@pytest.mark.parametrize("option", ["sources", "targets"])
def test_an_empty_list_of_domains_is_refused(option: str) -> None:
    with pytest.raises(BenchError, match=f"--{option}: names no domain; the suite s has a, b, c"):
        plan({}, Request(**{option: []}))  # type: ignore[arg-type]


def test_leave_one_out_needs_two_domains() -> None:
    with pytest.raises(BenchError, match="needs two domains or more"):
        plan({"sources": "all-but-target"}, suite=Suite("s", ("a",), "synth", "synth-trunk"))


def test_a_method_that_adapts_has_a_run_for_each_pair_of_source_and_target() -> None:
    runs = plan(ADAPTED, methods=(CORAL,))
    assert [(run.sources, run.adaptation_target, tuple(run.targets)) for run in runs] == [
        (("a",), "b", ("a", "b")),
        (("a",), "c", ("a", "c")),
        (("b",), "a", ("a", "b")),
        (("b",), "c", ("b", "c")),
        (("c",), "a", ("a", "c")),
        (("c",), "b", ("b", "c")),
    ]
    spec = runs[0].with_fingerprints({"a": "1", "b": "2", "c": "3"})
    assert (spec.adaptation_target, spec.targets) == ("b", {"a": "1", "b": "2"})
    assert spec.fingerprints == {"a": "1", "b": "2"}
    assert [spec.learns_from(name) for name in "abc"] == [True, True, False]
    assert len({run.with_fingerprints(dict.fromkeys("abc", "1")).key for run in runs}) == 6


def test_a_method_that_adapts_can_have_several_sources_and_fewer_targets() -> None:
    (run,) = plan(ADAPTED | {"sources": "all-but-target"}, Request(targets=["c"]), (CORAL,))
    assert (run.sources, run.adaptation_target, tuple(run.targets)) == (("a", "b"), "c", ("c",))
    (run,) = plan(ADAPTED, Request(sources=["a"], targets=["c"]), (CORAL,))
    assert (run.sources, run.adaptation_target, tuple(run.targets)) == (("a",), "c", ("c",))


def test_adaptation_without_another_target_is_refused() -> None:
    with pytest.raises(BenchError, match=r"coral adapts to a target .* use --protocol adaptation"):
        plan(ADAPTED | {"targets": "none", "selection": "source-val"}, methods=(CORAL,))
    with pytest.raises(BenchError, match="the method cafe has no parameter 'adapt'"):
        plan(ADAPTED)


def test_a_parameter_of_one_of_two_methods_is_refused_with_the_ways_to_set_it() -> None:
    with pytest.raises(BenchError) as caught:
        plan({}, Request(settings={"gate": "linear"}), (PROBE, CAFE))
    assert str(caught.value) == (
        "--set: cafe has a parameter 'gate', and linear_probe does not; run them in separate commands, or set it in a "
        "protocol (docs/protocols.md): method: {cafe: {gate: …}, linear_probe: {}}"
    )
    assert plan({"method": {"cafe": {"gate": "linear"}, "linear_probe": {}}}, methods=(PROBE, CAFE))
    with pytest.raises(BenchError, match="the method linear_probe has no parameter 'gat'"):
        plan({}, Request(settings={"gat": 1}), (PROBE, CAFE))


def test_a_method_that_compares_domains_is_refused_with_one() -> None:
    with pytest.raises(
        BenchError, match=r"coral compares domains .* leave-one-out\), .* adaptation\), .* pseudo_domains=3"
    ):
        plan({}, methods=(CORAL,))
    for fits in (
        plan({"sources": "all-but-target"}, methods=(CORAL,)),
        plan({}, Request(settings={"pseudo_domains": 2}), (CORAL,)),
        plan({}, methods=(IRM,)),
    ):
        assert fits
    with pytest.raises(BenchError, match="does nothing with one"):
        plan({}, Request(settings={"pseudo_domains": 1}), (CORAL,))


def test_unnamed_methods_that_cannot_run_are_left_out_with_a_note() -> None:
    planned = outline(Protocol(about="x", seeds=[0]), "p.yaml", SUITE, [CORAL, PROBE], Request(), skip_unfit=True)
    assert {one.method.name for one in planned.outlines} == {"linear_probe"}
    (note,) = planned.notes
    assert note.startswith("left out: coral compares domains")


def test_leave_two_out_has_a_training_for_every_two_targets() -> None:
    suite = Suite("s", tuple("abcd"), "synth", "synth-trunk", recipe="small")
    runs = plan({"sources": "all-but-two", "seeds": [0]}, suite=suite)
    assert [tuple(run.targets) for run in runs] == [
        ("a", "b"),
        ("a", "c"),
        ("a", "d"),
        ("b", "c"),
        ("b", "d"),
        ("c", "d"),
    ]
    assert all(sorted((*run.sources, *run.targets)) == list("abcd") for run in runs)
    (run,) = plan({"sources": "all-but-two", "seeds": [0]}, Request(targets=["d", "b"]), suite=suite)
    assert (run.sources, tuple(run.targets)) == (("a", "c"), ("d", "b"))
    with pytest.raises(BenchError, match=r"sources: all-but-two needs two targets or more"):
        plan({"sources": "all-but-two"}, Request(targets=["b"]))
    two = Suite("s", ("a", "b"), "synth", "synth-trunk")
    with pytest.raises(BenchError, match=r"all-but-two needs three domains or more, and the suite s has two"):
        plan({"sources": "all-but-two"}, suite=two)


def test_a_protocol_with_several_fractions_has_runs_for_each() -> None:
    runs = plan({"fraction": [0.1, 1.0], "seeds": [0]}, Request(sources=["a"]))
    assert [run.fraction for run in runs] == [0.1, 1.0]
    assert Protocol(about="x").fraction == [1.0]
    assert [run.fraction for run in plan({"fraction": 0.5, "seeds": [0]}, Request(sources=["a"]))] == [0.5]


def test_a_protocol_about_some_domains_refuses_others() -> None:
    runs = plan({"domains": ["c", "a"], "sources": "all-but-target", "seeds": [0]})
    assert [(run.sources, tuple(run.targets)) for run in runs] == [(("c",), ("a",)), (("a",), ("c",))]
    for request in (Request(sources=["b"]), Request(targets=["b"])):
        with pytest.raises(BenchError, match=r"--\w+: the suite s, as far as p\.yaml uses it, has no domain 'b'"):
            plan({"domains": ["c", "a"]}, request)
    with pytest.raises(BenchError, match=r"p\.yaml: domains: the suite s has no domain 'z'"):
        plan({"domains": ["z"]})


def test_a_protocol_that_would_score_nothing_is_refused() -> None:
    with pytest.raises(
        BenchError, match=r"p\.yaml: targets: none, with the selection last, would score nothing at all"
    ):
        plan({"targets": "none"})
    with pytest.raises(BenchError, match="would score nothing at all"):
        plan({"targets": "none", "selection": "source-val"}, Request(selection="last"))
    assert plan({"targets": "none", "selection": "source-val"})


def test_options_of_scoring_come_from_the_command_then_the_protocol() -> None:
    (usual,) = plan({"sources": ["a"], "seeds": [0]})
    assert (usual.views, usual.prior) == (("plain",), 0.0)
    protocol = {"sources": ["a"], "seeds": [0], "views": ["mirror", "plain"], "prior": 0.5}
    (run,) = plan(protocol)
    assert (run.views, run.prior) == (("plain", "mirror"), 0.5)
    (run,) = plan(protocol, Request(views=["plain"], prior=0.0))
    assert run.views == ("plain",)
    assert run.prior == 0.0


def test_no_prior_is_taken_out_where_the_logits_have_none() -> None:
    prototype, coral = (read_method(ROOT / "methods" / f"{name}.py") for name in ("nearest_prototype", "coral"))
    variants = {"default": {}, "even": {"sampling": "balanced"}, "corrected": {"logit_adjustment": 1.0}}
    for method, protocol, expected, reason in (
        (prototype, {}, [0.0], "its logits contain no class frequencies of the source"),
        (coral, {"variants": variants, "sources": "all-but-target", "targets": ["a"]}, [0.5, 0.0, 0.0], "already"),
    ):
        usual = {"about": "x", "sources": ["a"], "seeds": [0], "prior": 0.5}
        found = outline(Protocol.model_validate({**usual, **protocol}), "p.yaml", SUITE, [method], NOTHING)
        assert [run.prior for run in found.runs] == expected
        assert len(found.notes) == len([prior for prior in expected if not prior])
        for note in found.notes:
            assert note.startswith(f"prior 0.5 is not applied to {method.name}: ")
            assert note.endswith(reason)

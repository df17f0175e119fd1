"""The command line: a thin client of `fergen_bench.api` and the only reader of argv.

Commands import what they need when they run, so that help and lists never load torch.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from fergen_bench.cli.console import console_on, write_any_encoding
from fergen_bench.cli.datasets import data
from fergen_bench.cli.evaluate import evaluate
from fergen_bench.cli.lists import list_
from fergen_bench.cli.mirror import sync, ui
from fergen_bench.cli.models import export, predict
from fergen_bench.cli.packing import results
from fergen_bench.cli.parameters import Group, PipeClosed
from fergen_bench.cli.reports import choose, compare, report, site, verify
from fergen_bench.cli.runs import run
from fergen_bench.cli.submissions import submit
from fergen_bench.error import BenchError, circumstance, unfit
from fergen_bench.wording import near

EXAMPLES = """
\b
Examples:
  fergen-bench run --method cafe --protocol leave-none
  fergen-bench run --method cafe --method linear_probe --seeds 0,1,2 --dry-run
  fergen-bench run --method cafe --set gate=linear --sources web
  fergen-bench report
  fergen-bench new-method my_idea
"""


@click.group(
    cls=Group, epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="fergen-bench")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def app(context: click.Context, debug: bool) -> None:
    """Measure how well facial-expression methods generalise to unseen domains, and compare them fairly."""
    context.ensure_object(dict)["debug"] = debug


@app.command("new-method")
@click.argument("name")
@click.option(
    "--kind",
    type=click.Choice(["gradient", "frozen"]),
    default="gradient",
    show_default=True,
    help="A method that trains a network, or one on frozen features.",
)
def new_method(name: str, kind: str) -> None:
    """Write methods/NAME.py, a complete small method to start from."""
    from fergen_bench.cli.templates import method_template
    from fergen_bench.experiment.method_file import valid_name
    from fergen_bench.experiment.project import find_project

    project = find_project()
    stem = name.replace("-", "_")
    if not valid_name(stem) or stem.startswith("_"):
        raise BenchError(f"{name!r} cannot be the name of a method; use letters, digits and _, and begin with a letter")
    if stem in project.methods() or (project.root / "methods" / f"{stem}.py").exists():
        raise BenchError(f"a method {stem!r} exists already; choose another name")
    path = project.root / "methods" / f"{stem}.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(method_template(stem, kind), encoding="utf-8")
    console_on().print(
        f"{near(path)} is written. Try it: fergen-bench run --method {stem} --protocol smoke --suite synth5-tiny"
    )


@app.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell: eval "$(fergen-bench completion bash)"."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(app, {}, "fergen-bench", "_FERGEN_BENCH_COMPLETE").source())


for command in (
    run,
    evaluate,
    report,
    site,
    compare,
    choose,
    verify,
    submit,
    export,
    predict,
    sync,
    ui,
    list_,
    data,
    results,
):
    app.add_command(command)


def main() -> None:
    """Run the command line. Errors end it with one sentence and exit status 2."""
    write_any_encoding()
    try:
        try:
            _call_app()
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except (BrokenPipeError, PipeClosed):  # as of `report | head`
        os._exit(128 + 13)  # the status that a shell reports after SIGPIPE


def _call_app() -> None:
    asked: dict[str, bool] = {}  # the options before the command, as `app` has read them
    try:
        app.main(_debug_first(sys.argv[1:]), prog_name="fergen-bench", standalone_mode=True, obj=asked)
    except (BrokenPipeError, PipeClosed):
        raise
    except BenchError as error:
        if asked.get("debug"):
            raise
        click.echo(f"fergen-bench: {error}", err=True)
        sys.exit(2)
    except Exception as error:
        if asked.get("debug"):
            raise
        if (known := circumstance(error) or unfit(error)) is not None:
            click.echo(f"fergen-bench: {known}", err=True)
            sys.exit(2)
        click.echo(
            f"fergen-bench: unexpected {type(error).__name__}: {error}. This is a bug; --debug shows where", err=True
        )
        sys.exit(1)


def _debug_first(arguments: Sequence[str]) -> list[str]:
    """Return arguments with --debug before the command, since people append it to the command that failed."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    others = [argument for argument in arguments[:end] if argument != "--debug"]
    return [*(["--debug"] if len(others) < end else []), *others, *arguments[end:]]

"""groupwise <verb> ...: the command line. Results on stdout, progress on stderr; importing it loads no torch."""

import errno
import json
import os
import sys
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from groupwise import __version__
from groupwise.cli import looking
from groupwise.cli.tables import TITLES, listed, settings_page
from groupwise.cli.usage import UsageError, message_of, refuse_empty
from groupwise.cli.words import make_ready, source_of
from groupwise.errors import ConfigError, GroupwiseError
from groupwise.openmp import let_threads_wait
from groupwise.places import OWN, asked_file, name_of, new_folder, recipe_file, write_start
from groupwise.terminal import safe_streams

app = typer.Typer(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Reinforcement learning for language models: GRPO, PPO, DPO, fine-tuning and their variants.",
)

MACHINE = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EIO,
    errno.EROFS,
    errno.EMFILE,
    errno.ENAMETOOLONG,
    errno.EACCES,
    errno.EPERM,
)
"""Errors of the system that are the machine's, whatever we were doing; others may be a bug and are shown whole."""
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[a.b=c ...]", help="Values that override the recipe's.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Events = Annotated[bool, typer.Option("--json", help="Print events as JSON, one per line.")]
RunFolder = Annotated[Path | None, typer.Option("--run", help="The run directory; default: a new one under run.root.")]
Resume = Annotated[bool, typer.Option("--resume", help="Resume from the run's last checkpoint.")]


def main() -> None:
    """The console command: our errors as one line on stderr; exit 0 ok, 1 the run failed, 2 your input, 130 stopped."""
    let_threads_wait()
    with safe_streams():
        _verb()


def _verb() -> None:
    """Does what the words ask for, and ends the process with its exit code unless that is 0."""
    try:
        code = app(refuse_empty(sys.argv[1:]), standalone_mode=False)  # of --help and the like; verbs return nothing
        sys.stdout.flush()  # what is lost is found here, not by Python at its end
        if code:
            sys.exit(code)
    except UsageError as error:
        print(f"error: {message_of(error, sys.argv[1:])}", file=sys.stderr)
        sys.exit(2)
    except GroupwiseError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.errno not in MACHINE:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what cannot be written is not tried again
        print(f"error: {error.filename or 'standard output'}: {error.strerror}", file=sys.stderr)
        sys.exit(1)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"groupwise {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command(epilog="Example: groupwise init mine")
def init(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="The folder; created if missing.")] = Path("."),
) -> None:
    """Create a recipe, questions and a reward to start from. Overwrites nothing."""
    written = write_start(folder)
    print(f"wrote {', '.join(written)} in {folder}")
    print(f"train with: groupwise train{'' if folder == Path('.') else f' {quote(str(folder))}'}")


@app.command(epilog="Example: groupwise train tiny update.steps=5 --run runs/first")
def train(
    recipe: Annotated[
        str | None,
        typer.Argument(
            help=f"A YAML file, a folder with {OWN}, or a shipped recipe (`groupwise list recipes`). "
            f"Default: ./{OWN}, or with --resume the run's recipe."
        ),
    ] = None,
    overrides: Overrides = None,
    run: RunFolder = None,
    resume: Resume = False,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="With --resume: even if another process seems to write the run.")
    ] = False,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="With --resume: even if the record is damaged or lacks steps.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the result, no progress.")] = False,
    as_json: Events = False,
    both: Annotated[bool, typer.Option("--events", hidden=True, help="--json, with progress as without it.")] = False,
) -> None:
    """Train a model with a recipe."""
    from groupwise.config import read_recipe

    known = "see `groupwise runs`"
    if resume and run is not None:
        make_ready(run, recipe, take_over=take_over, accept_loss=accept_loss)
    elif take_over or accept_loss:
        raise ConfigError("--take-over and --accept-loss need a run to resume", hint="add --run DIR --resume")
    source, words = source_of("train", recipe, overrides, run, resume=resume, own="recipe.yaml", what="run", hint=known)
    settings = read_recipe(source, words)
    folder = run or new_folder(Path(settings.run.root), name_of(source))
    from groupwise import api
    from groupwise.cli.showing import showing

    with showing(as_json, quiet=quiet, both=both) as view:
        summary = api.train(settings, run=folder, resume=resume, show=view)
    if not (as_json or both):
        from groupwise.run.report import print_report

        print_report(summary)


@app.command(
    epilog="Example: groupwise compare recipes/tiny.yaml --presets grpo,rloo --seeds 0 update.steps=2 --run runs/both"
)
def compare(
    recipe: Annotated[str, typer.Argument(help="A recipe, as for train.")],
    overrides: Overrides = None,
    presets: Annotated[
        str | None, typer.Option(help="Presets, separated by commas; see `groupwise list presets`.")
    ] = None,
    variant: Annotated[list[str] | None, typer.Option(metavar="'NAME: a.b=c ...'", help="Add a variant.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Separated by commas; default: the recipe's seed.")] = None,
    run: Annotated[Path | None, typer.Option("--run", help="Folder of the comparison; default: a new one.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume the runs that did not finish.")] = False,
    as_json: Events = False,
) -> None:
    """Compare presets and seeds. Trains each of them at equal samples and prints a table with confidence intervals."""
    from groupwise.cli.showing import print_result, showing
    from groupwise.compare.comparison import compare as comparison_of
    from groupwise.compare.plan import make_plan
    from groupwise.config import read_recipe

    if resume and run is None:
        raise ConfigError("--resume without --run: which comparison?", hint="give its folder")
    words, recipe = list(overrides or []), recipe_file(recipe)
    folder = run or new_folder(Path(read_recipe(recipe, words).run.root), f"{name_of(recipe)}-compare")
    plan = make_plan(recipe, words, presets=presets, variants=variant or [], seeds=seeds, folder=folder)
    with showing(as_json):
        found = comparison_of(plan, resume=resume)
    print_result(found.content, found.text, as_json=as_json)
    if found.error:
        raise found.error


@app.command(epilog="Example: groupwise pipeline recipes/pipeline.yaml --run runs/pipeline")
def pipeline(
    recipe: Annotated[
        str | None,
        typer.Argument(help="A YAML file or a shipped pipeline. With --resume: the folder's."),
    ] = None,
    overrides: Overrides = None,
    run: Annotated[Path | None, typer.Option("--run", help="Folder of the pipeline; default: a new one.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume at the stage and step where it stopped.")] = False,
    as_json: Events = False,
) -> None:
    """Train in several stages. Each starts from the results of earlier ones, and every stage is evaluated."""
    from groupwise.cli.showing import print_result, showing
    from groupwise.pipeline.plan import make_plan
    from groupwise.pipeline.run import FILE, run_pipeline

    hint = "give its folder"
    source, words = source_of("pipeline", recipe, overrides, run, resume=resume, own=FILE, what="pipeline", hint=hint)
    plan = make_plan(source, words, folder=lambda file: run or new_folder(Path(file.run.root), name_of(source)))
    with showing(as_json):
        found = run_pipeline(plan, resume=resume)
    print_result(found.content, found.text, as_json=as_json)


@app.command("eval", epilog="Example: groupwise eval tiny --samples 4")
def evaluate(
    source: Annotated[str, typer.Argument(help="A run directory (its last checkpoint), or a recipe (its model).")],
    overrides: Overrides = None,
    samples: Annotated[int, typer.Option(min=0, help="k: sampled answers per question, beside the greedy one.")] = 0,
    questions: Annotated[
        str | None, typer.Option(help="Questions of this file or built-in source, not the held-out ones.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Evaluate this run, model folder or built-in model.")] = None,
    against: Annotated[str | None, typer.Option(help="Compare with this model on the same questions.")] = None,
    best_of: Annotated[str | None, typer.Option(help="Report best@k, the best sample by this reward.")] = None,
    search: Annotated[str | None, typer.Option(help="mcts: a tree search over steps, guided by --guide.")] = None,
    guide: Annotated[str | None, typer.Option(help="A reward that scores partial outputs.")] = None,
    simulations: Annotated[int | None, typer.Option(help="Simulations per question; default 16.")] = None,
    width: Annotated[int | None, typer.Option(help="Next steps sampled at a leaf; default 4.")] = None,
    step_separator: Annotated[str | None, typer.Option(help="Text that ends a step; default \\n.")] = None,
    max_steps: Annotated[int | None, typer.Option(help="Maximum steps of an output; default 16.")] = None,
    c_puct: Annotated[float | None, typer.Option(help="Exploration constant; default 1.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for eval.json, eval.md and answers.jsonl.")] = None,
    as_json: Events = False,
) -> None:
    """Evaluate a model. Measures accuracy, rewards, mean@k, pass@k, majority votes, tree search and paired tests."""
    asked_file(source)  # before torch is loaded
    from groupwise.cli.showing import begun_again, print_result, showing
    from groupwise.evaluation.measure import Wanted, evaluate_source
    from groupwise.evaluation.search import settings_of

    given = {"guide": guide, "simulations": simulations, "width": width, "max_steps": max_steps, "c_puct": c_puct}
    settings = settings_of(search, {**given, "separator": step_separator})
    wanted = Wanted(samples, questions, model, best_of, settings, against, out)
    with begun_again(sys.argv[1:]), showing(as_json):
        found = evaluate_source(source, list(overrides or []), wanted)
    print_result(found.content, found.text, as_json=as_json)


@app.command(epilog="Example: groupwise sample tiny '7>' --samples 3")
def sample(
    model: Annotated[str, typer.Argument(help="A run directory, a model folder, a built-in name or a hub name.")],
    question: Annotated[str, typer.Argument(help="The question; - reads it from standard input.")],
    image: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="A picture; may be repeated."),
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Number of answers.")] = 1,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Maximum tokens of an answer.")] = 128,
    temperature: Annotated[float, typer.Option(min=0.0, help="0: greedy.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="The random seed.")] = 0,
    as_json: Json = False,
) -> None:
    """Ask a model one question."""
    from groupwise.cli.showing import begun_again, showing
    from groupwise.evaluation.ask import answers_to, text_of
    from groupwise.strict_json import json_text

    text = sys.stdin.read() if question == "-" else question
    asked = {"samples": samples, "max_new_tokens": max_new_tokens, "seed": seed}
    with begun_again(sys.argv[1:]), showing(as_json):
        found = answers_to(model, text, images=image or (), temperature=temperature, **asked)
    if as_json:
        print(json_text(found))
        return
    for answer in found:
        print(f"[{answer['finish']}, {answer['tokens']} tokens] {text_of(answer)}")


@app.command("list", epilog="Example: groupwise list presets")
def list_names(
    title: Annotated[
        str, typer.Argument(metavar="TABLE", autocompletion=lambda: TITLES, help=f"One of: {', '.join(TITLES)}.")
    ] = "",
    parameters: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME=VALUE ...]", help="The function's parameters, for --check.")
    ] = None,
    check: Annotated[
        str | None, typer.Option(metavar="FUNCTION", help="Check it: a name, or file.py:function.")
    ] = None,
    as_json: Json = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Of settings: the page docs/settings.md.")] = False,
) -> None:
    """List presets, rewards, settings and more. With --check, test a function of yours against the contracts."""
    if as_markdown and title != "settings":
        raise ConfigError("--markdown: only for settings", hint="groupwise list settings --markdown")
    if check is None:
        if parameters:
            raise ConfigError(f"list: {parameters[0]!r} is read only with --check", hint="leave it out")
        print(settings_page() if as_markdown else listed(title, as_json=as_json))
        return
    from groupwise.run.check import contracts

    found = contracts(title, check, parameters or [])
    lines = [f"{'fails' if what else 'ok   '}  {claim}{what and f': {what}'}" for claim, what in found.items()]
    print(json.dumps(found, indent=2) if as_json else "\n".join(lines))
    if any(found.values()):
        raise typer.Exit(1)


@app.command(epilog="Example: groupwise schema")
def schema(
    pipeline: Annotated[bool, typer.Option("--pipeline", help="The schema of pipelines.")] = False,
) -> None:
    """Print the JSON Schema of recipes. Editors use it to complete and check keys."""
    if pipeline:
        from groupwise.pipeline.schema import pipeline_schema

        print(json.dumps(pipeline_schema(), indent=1))
        return
    from groupwise.config.schema import recipe_schema

    print(json.dumps(recipe_schema(), indent=1))


app.command(epilog="Example: groupwise runs")(looking.runs)
app.command(epilog="Example: groupwise plot runs/one runs/two --out both.png")(looking.plot)
app.command(epilog="Example: groupwise attack exact --questions 2")(looking.attack)
app.command(epilog="Example: groupwise regrade runs/one --reward number")(looking.regrade)

"""The command line. Each command is thin: it turns options into arguments, and results into text or JSON."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from forage.commands import blend as blend_commands
from forage.commands import data as data_commands
from forage.commands import page as page_commands
from forage.commands import run as run_commands
from forage.commands import sweep as sweep_commands
from forage.commands import trial as trial_commands
from forage.commands.bundle import bundle
from forage.commands.features import features
from forage.environment.config import config, read_all_defaults
from forage.environment.doctor import doctor
from forage.outer_cv.command import outer_cv
from forage.recipes.list_and_show import recipes
from forage.replay.command import tabulate
from forage.replay.plan import plan
from forage.terminal.messages import INTERRUPTED, say, show, warn
from pasture.errors import ForageError


class _Group(TyperGroup):
    """Prints a line after Ctrl-C, where Typer would exit without one."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            say("forage: interrupted")
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    cls=_Group,
    name="forage",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from trainables.recipe.versions import forage_version

        show(forage_version())
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Hyperparameter search on Ray and honest ensembles for pasture biomass from photographs."""
    context.default_map = read_all_defaults(context.command)


app.command("make-data", epilog="Example: `forage make-data data/synthetic --images 48`")(data_commands.make_data)
app.command(epilog="Example: `forage check data/csiro`")(data_commands.check)
app.command(epilog="Example: `forage exclude data/csiro ids.txt --out data/fewer`")(data_commands.exclude)
app.command(epilog="Example: `forage eda data/csiro --out eda.html`")(page_commands.eda)
app.command(epilog="Example: `forage batch data/csiro --recipe two_stream`")(page_commands.batch)
app.command(epilog="Example: `forage sweep data/csiro --trials 24 --set schedule.epochs=40`")(sweep_commands.sweep)
app.command(epilog="Example: `forage train data/csiro --recipe feature_ridge`")(sweep_commands.train)
app.command(epilog="Example: `forage resume runs/default-20261121-093000 --trials 100`")(run_commands.resume)
app.command(epilog="Example: `forage status runs/default-20261121-093000 --json`")(run_commands.status)
app.command(epilog="Example: `forage report runs/default-20261121-093000 --out report.html`")(page_commands.report)
app.command(epilog="Example: `forage watch runs/default-20261121-093000`")(trial_commands.watch)
app.command(epilog="Example: `forage trials runs/a --where 'score > 0.6' --sort seconds`")(trial_commands.trials)
app.command(epilog="Example: `forage compare runs/a:t0003 blend`")(trial_commands.compare)
app.command(epilog="Example: `forage export runs/a --to optuna --out study.db`")(trial_commands.export)
app.command(epilog="Example: `forage gc runs/default-20261121-093000 --keep 20`")(run_commands.gc)
app.command(epilog="Example: `forage ensemble runs/a runs/b --out blend --method auto`")(blend_commands.ensemble)
app.command("outer-cv", epilog="Example: `forage outer-cv data/csiro --trials 24 --against random --out outer-cv`")(
    outer_cv
)
app.command(epilog="Example: `forage plan --space default --workers 64 --hours 4`")(plan)
app.command(epilog="Example: `forage tabulate data/csiro --recipes 500 --out table.parquet`")(tabulate)
app.command(epilog="Example: `forage predict blend data/csiro --out submission.csv`")(blend_commands.predict)
app.command(epilog="Example: `forage bundle blend --out bundle`")(bundle)
app.command("import", epilog="Example: `forage import oof/*.csv --truth data/csiro/train.csv --name theirs`")(
    blend_commands.import_
)
app.command(epilog="Example: `forage refit blend data/csiro --out blend-refit`")(blend_commands.refit)
app.command(epilog="Example: `forage pseudo blend data/csiro --out data/csiro-pseudo --weight 0.3`")(
    blend_commands.pseudo
)
app.command(epilog="Example: `forage doctor --json`")(doctor)
app.command(epilog="Example: `forage config`")(config)
app.add_typer(recipes, name="recipes")
app.add_typer(features, name="features")


app.command(epilog="Example: `forage demo`")(data_commands.demo)


def main() -> None:
    """Run the command line. Every error of ours is one line and an exit status."""
    warnings.showwarning = lambda message, category, *_: warn(str(message)) if category is UserWarning else None
    try:
        if os.environ.get("FORAGE_CACHE_LIMIT"):
            from trainables.images.array_cache import cache_limit

            cache_limit()  # otherwise every trial of a sweep would fail on a bad value
        app(prog_name="forage")
    except ForageError as error:
        say(f"forage: {error}")
        sys.exit(error.exit_status)

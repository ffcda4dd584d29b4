"""The command line: `jaxdescramble demo`, `explain`, `seeds`, `attribution`, `gates`; `run`, `status`, `report`."""

import os
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

from jaxdescramble._base.extras import extra
from jaxdescramble.show._exits import FAILED, INTERRUPTED, REFUSED, TERMINATED, StoppedError

if TYPE_CHECKING:
    from typer import Typer
    from typer.core import TyperCommand

# Each command imports what it needs when it runs, so that `jaxdescramble --help` works without JAX.


def main() -> None:
    """Run the command line; this is the entry point `jaxdescramble`."""
    try:
        application = build()
    except ImportError as error:
        print(f"jaxdescramble: {error}", file=sys.stderr)
        sys.exit(REFUSED)
    try:
        application()
    except SystemExit as ended:
        if isinstance(ended.code, int) and ended.code in (INTERRUPTED, TERMINATED):
            # XLA cannot be interrupted, and a normal exit would wait for its threads.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(ended.code)
        raise


def build() -> "Typer":
    """Build the typer application. It is built on request, because typer is an extra.

    Raises:
        ImportError: if typer is not installed.
    """
    typer = extra("typer", "the command line needs typer")
    app = typer.Typer(
        name="jaxdescramble",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        help="Find the frame in which a network's layers become readable, and compare what you read with chance.",
    )

    def said(asked: bool) -> bool:
        if asked:
            print(f"jaxdescramble {version('jaxdescramble')}")
            raise typer.Exit()
        return asked

    @app.callback()
    def whole(
        _: Annotated[
            bool, typer.Option("--version", callback=said, is_eager=True, help="Print the version and exit.")
        ] = False,
    ) -> None:
        pass

    seed = typer.Option(help="Random seed.", min=0)
    out = typer.Option(help="Folder for checkpoints and results. The same command continues an interrupted run.")
    quick = typer.Option("--quick", help="Run for seconds instead of minutes. This tests the code, not the claims.")
    layers = typer.Option(help="Number of layers of the network.", min=2, max=3)
    plain = typer.Option("--no-figures", help="Write numbers and the page, but no figures.")

    @app.command()
    def demo(
        seed: Annotated[int, seed] = 0,
        out: Annotated[Path, out] = Path("jaxdescramble-demo"),
        quick: Annotated[bool, quick] = False,
        layers: Annotated[int, layers] = 2,
        no_figures: Annotated[bool, plain] = False,
    ) -> None:
        """Train DEERNet, descramble it, and compare every reading with its nulls."""

        def action() -> None:
            from jaxdescramble.show.papers import demonstration

            demonstration.run_demo(demonstration.settings_for(seed, layers, quick), out, not no_figures)

        _guarded(typer, action)

    @app.command()
    def seeds(
        first: Annotated[int, typer.Option(help="First seed.", min=0)] = 0,
        count: Annotated[int, typer.Option(help="Number of seeds.", min=1)] = 10,
        out: Annotated[Path, out] = Path("jaxdescramble-seeds"),
        quick: Annotated[bool, quick] = False,
        layers: Annotated[int, layers] = 2,
    ) -> None:
        """Run the demonstration for several seeds, and compare their findings."""

        def action() -> None:
            from jaxdescramble.show.papers import demonstration

            demonstration.run_seeds(range(first, first + count), layers, quick, out)

        _guarded(typer, action)

    @app.command()
    def attribution(
        seeds: Annotated[int, typer.Option(help="Number of networks of each configuration.", min=1)] = 3,
        pictures: Annotated[int, typer.Option(help="Number of unseen pictures for the tests.", min=1)] = 64,
        out: Annotated[Path, out] = Path("jaxdescramble-attribution"),
        quick: Annotated[bool, quick] = False,
        no_figures: Annotated[bool, plain] = False,
    ) -> None:
        """Train classifiers, and test inactive-state sensitivity and other attributions on them."""

        def action() -> None:
            from jaxdescramble.show.papers import experiments

            experiments.run_attribution(seeds, pictures, quick, out, not no_figures)

        _guarded(typer, action)

    @app.command()
    def gates(
        seeds: Annotated[int, typer.Option(help="Number of networks of each variant.", min=1)] = 5,
        pictures: Annotated[
            list[str] | None,
            typer.Option(help="A set: digits, shifted, mnist, cifar10 or cifar100. You can repeat the option."),
        ] = None,
        folder: Annotated[Path | None, typer.Option(help="Folder with the files of mnist, cifar10, cifar100.")] = None,
        out: Annotated[Path, out] = Path("jaxdescramble-gates"),
        quick: Annotated[bool, quick] = False,
        no_figures: Annotated[bool, plain] = False,
    ) -> None:
        """Train gated networks of every kind side by side, and compare the claims about them with the numbers."""

        def action() -> None:
            from jaxdescramble.show.papers import experiments

            experiments.run_gates(seeds, tuple(pictures or ()), folder, quick, out, not no_figures)

        _guarded(typer, action)

    @app.command()
    def explain(
        network: Annotated[
            str,
            typer.Argument(
                help="model.py:build, a function that returns f and params (the file is run); or layers.npz or "
                "layers.safetensors with <layer>.weight (out, in) and <layer>.input (in, samples).",
                show_default=False,
            ),
        ],
        data: Annotated[
            Path | None,
            typer.Option(
                help="A .npz file with the inputs x of the network; also weights, groups and names of the samples."
            ),
        ] = None,
        out: Annotated[
            Path, typer.Option(help="Folder for the report. The same command continues an interrupted run.")
        ] = Path("jaxdescramble-explain"),
        draws: Annotated[int, typer.Option(help="Number of draws from each null.", min=1)] = 199,
        seed: Annotated[int, seed] = 0,
        layer: Annotated[
            list[str] | None,
            typer.Option(help="Part of a layer's name, or a pattern with *. You can repeat the option."),
        ] = None,
        as_one_line: Annotated[bool, typer.Option("--headline", help="Print the headline only.")] = False,
    ) -> None:
        """Say which readings of a network are findings, and write one page that shows why."""

        def action() -> None:
            from jaxdescramble.show import explanations

            explanations.run_explain(network, data, out, draws, seed, layer, as_one_line)

        _guarded(typer, action)

    @app.command(cls=_with_catalogue())
    def run(
        source: Annotated[
            Path,
            typer.Argument(
                help="Arrays (.npz, .npy, .safetensors, orbax, or a folder of these), or a specification (.toml).",
                show_default=False,
            ),
        ],
        out: Annotated[Path, typer.Option(help="Folder for results. The same command continues an interrupted sweep.")],
        objective: Annotated[
            list[str] | None, typer.Option(help="Objective (default: smoothness). You can repeat the option.")
        ] = None,
        name: Annotated[
            list[str] | None, typer.Option(help="Pattern for the names of arrays. You can repeat the option.")
        ] = None,
        samples_first: Annotated[
            bool | None,
            typer.Option(
                "--samples-first/--features-first",
                help="Which axis of an array comes first (default: decided by its name).",
                show_default=False,
            ),
        ] = None,
        group: Annotated[str | None, typer.Option(help="Group of P: O, SO or permutation.")] = None,
        seed: Annotated[int | None, typer.Option(help="Random seed.", min=0)] = None,
        seeds: Annotated[
            int | None, typer.Option(help="Number of random starts of each problem. Each is a row of the table.", min=1)
        ] = None,
        restarts: Annotated[
            int | None, typer.Option(help="Number of further random starts. Only the best result is kept.", min=0)
        ] = None,
        rank: Annotated[
            int | None,
            typer.Option(help="Principal components to keep of wider layers (default: all features).", min=1),
        ] = None,
        chunk_size: Annotated[
            int | None, typer.Option(help="Number of problems that are solved together.", min=1)
        ] = None,
        shard: Annotated[str | None, typer.Option(help="i/n: solve share i of n; the first share is 0/n.")] = None,
        resume: Annotated[bool, typer.Option(help="Whether to continue a sweep that is already in the folder.")] = True,
        no_figures: Annotated[bool, plain] = False,
    ) -> None:
        """Descramble all layers of files, on all devices. To continue a stopped run, use the same command.

        On Ctrl-C and SIGTERM, finished chunks are kept and unfinished chunks are dropped. docs/sweeps.md explains the
        specification.

        Exit codes: 0 all problems are solved; 1 a file could not be read or written; 2 the request was refused; 3 a
        problem has no answer; 4 a problem has no result yet; 130 interrupted; 143 terminated.
        """

        def action() -> None:
            from jaxdescramble.show.sweeps import commands as sweeps

            options: sweeps.Options = {
                "objectives": objective,
                "names": name,
                "samples_first": samples_first,
                "group": group,
                "seed": seed,
                "seeds": seeds,
                "restarts": restarts,
                "rank": rank,
                "chunk_size": chunk_size,
            }
            sweeps.run_sweep(source, options, out, shard, resume, not no_figures)

        _guarded(typer, action)

    @app.command()
    def status(
        folder: Annotated[Path, typer.Argument(help="Folder of the sweep.")],
        as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    ) -> None:
        """Show the progress of a sweep. The exit codes are those of `run`."""

        def action() -> None:
            from jaxdescramble.show.sweeps import commands as sweeps

            sweeps.show_status(folder, as_json)

        _guarded(typer, action)

    @app.command()
    def report(
        folder: Annotated[Path, typer.Argument(help="Folder of the sweep.")],
        source: Annotated[
            Path | None, typer.Option(help="Arrays or specification of the sweep, for pictures of its layers.")
        ] = None,
        no_figures: Annotated[bool, plain] = False,
    ) -> None:
        """Write the report of a sweep, finished or not. The exit codes are those of `run`."""

        def action() -> None:
            from jaxdescramble.show.sweeps import commands as sweeps

            sweeps.show_report(folder, source, not no_figures)

        _guarded(typer, action)

    return app


def _with_catalogue() -> "type[TyperCommand]":
    """Return a command class whose help lists the objectives and solvers. The list is made when the help is shown."""
    from typer.core import TyperCommand

    class WithCatalogue(TyperCommand):
        def format_help(self, ctx: Any, formatter: Any) -> None:
            from jaxdescramble.show.sweeps.commands import catalogue_text

            self.epilog = catalogue_text()
            super().format_help(ctx, formatter)

    return WithCatalogue


def _guarded(typer: ModuleType, action: Callable[[], None]) -> None:
    """Run a command, and report an error in one line. JAXDESCRAMBLE_DEBUG=1 shows the traceback instead."""
    try:
        action()
        return
    except (StoppedError, OSError, ValueError, TypeError, FloatingPointError, ImportError, KeyboardInterrupt) as error:
        if os.environ.get("JAXDESCRAMBLE_DEBUG") == "1" and not isinstance(error, StoppedError):
            raise
        message, code = _said(error)
    typer.echo(message, err=True)
    raise typer.Exit(code)


def _said(error: BaseException) -> tuple[str, int]:
    if isinstance(error, StoppedError):
        return str(error), error.code
    if isinstance(error, KeyboardInterrupt):
        return "Interrupted.", INTERRUPTED
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        why = error.strerror or str(error)
        return f"{where}{why}. Files written before are complete. Run the same command again to continue.", FAILED
    return " ".join(str(error).split()), REFUSED

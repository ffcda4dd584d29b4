"""The command line: `jaxdescramble demo`, `seeds`, `attribution`, `gates`; `run`, `status`, `report`."""

import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from jaxdescramble._base.extras import extra
from jaxdescramble.show._exits import FAILED, INTERRUPTED, REFUSED, TERMINATED, StoppedError

# What a command needs is imported when it runs: `jaxdescramble --help` needs no JAX.


def main() -> None:
    """The entry point `jaxdescramble`."""
    try:
        application = build()
    except ImportError as error:
        print(f"jaxdescramble: {error}", file=sys.stderr)
        sys.exit(REFUSED)
    try:
        application()
    except SystemExit as ended:
        if isinstance(ended.code, int) and ended.code in (INTERRUPTED, TERMINATED):
            # XLA cannot be interrupted, and an ordinary exit would wait for its threads to end what they compute.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(ended.code)
        raise


def build() -> Any:
    """The typer application. Built when it is asked for: typer is an extra.

    Raises:
        ImportError: typer is not installed.
    """
    typer = extra("typer", "the command line needs typer")
    app = typer.Typer(
        name="jaxdescramble",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        help="Find the frame in which layers become readable, and hold what is read off them against chance.",
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
    out = typer.Option(help="Folder for checkpoints and results; running again goes on from what is there.")
    quick = typer.Option("--quick", help="Seconds instead of a minute: exercises everything, proves nothing.")
    layers = typer.Option(help="Layers of the network.", min=2, max=3)
    plain = typer.Option("--no-figures", help="Numbers and the page alone.")

    @app.command()
    def demo(
        seed: Annotated[int, seed] = 0,
        out: Annotated[Path, out] = Path("jaxdescramble-demo"),
        quick: Annotated[bool, quick] = False,
        layers: Annotated[int, layers] = 2,
        no_figures: Annotated[bool, plain] = False,
    ) -> None:
        """Train DEERNet, descramble it, and hold every reading against its nulls."""

        def action() -> None:
            from jaxdescramble.show.papers import demonstration

            demonstration.run_demo(demonstration.settings_for(seed, layers, quick), out, not no_figures)

        _guarded(typer, action)

    @app.command()
    def seeds(
        first: Annotated[int, typer.Option(help="First seed.", min=0)] = 0,
        count: Annotated[int, typer.Option(help="How many seeds.", min=1)] = 10,
        out: Annotated[Path, out] = Path("jaxdescramble-seeds"),
        quick: Annotated[bool, quick] = False,
        layers: Annotated[int, layers] = 2,
    ) -> None:
        """Run the demonstration for several seeds, and put their findings side by side."""

        def action() -> None:
            from jaxdescramble.show.papers import demonstration

            demonstration.run_seeds(range(first, first + count), layers, quick, out)

        _guarded(typer, action)

    @app.command()
    def attribution(
        seeds: Annotated[int, typer.Option(help="Networks of each configuration.", min=1)] = 3,
        pictures: Annotated[int, typer.Option(help="Unseen pictures that the tests are made on.", min=1)] = 64,
        out: Annotated[Path, out] = Path("jaxdescramble-attribution"),
        quick: Annotated[bool, quick] = False,
        no_figures: Annotated[bool, plain] = False,
    ) -> None:
        """Train classifiers, and put inactive-state sensitivity and other attributions to the test."""

        def action() -> None:
            from jaxdescramble.show.papers import experiments

            experiments.run_attribution(seeds, pictures, quick, out, not no_figures)

        _guarded(typer, action)

    @app.command()
    def gates(
        seeds: Annotated[int, typer.Option(help="Networks of each variant.", min=1)] = 5,
        pictures: Annotated[
            list[str] | None,
            typer.Option(help="digits, shifted, mnist, cifar10, cifar100; may be given several times."),
        ] = None,
        folder: Annotated[Path | None, typer.Option(help="Where files of mnist, cifar10, cifar100 are.")] = None,
        out: Annotated[Path, out] = Path("jaxdescramble-gates"),
        quick: Annotated[bool, quick] = False,
        no_figures: Annotated[bool, plain] = False,
    ) -> None:
        """Train gated networks of every kind side by side, and hold the claims made for them against the numbers."""

        def action() -> None:
            from jaxdescramble.show.papers import experiments

            experiments.run_gates(seeds, tuple(pictures or ()), folder, quick, out, not no_figures)

        _guarded(typer, action)

    @app.command(cls=_with_catalogue())
    def run(
        source: Annotated[
            Path,
            typer.Argument(
                help="Arrays (.npz, .npy, .safetensors, orbax, a folder of these) or a specification (.toml).",
                show_default=False,
            ),
        ],
        out: Annotated[Path, typer.Option(help="Folder for results; running again goes on from what is there.")],
        objective: Annotated[
            list[str] | None, typer.Option(help="Which objective; may be given several times (default: smoothness).")
        ] = None,
        name: Annotated[
            list[str] | None, typer.Option(help="Pattern of the arrays to take; may be given several times.")
        ] = None,
        samples_first: Annotated[
            bool | None,
            typer.Option(
                "--samples-first/--features-first",
                help="Which axis of an array comes first (default: by its name).",
                show_default=False,
            ),
        ] = None,
        group: Annotated[str | None, typer.Option(help="O, SO or permutation.")] = None,
        seed: Annotated[int | None, typer.Option(help="Random seed.", min=0)] = None,
        seeds: Annotated[
            int | None, typer.Option(help="Random starts of each problem, a row of the table each.", min=1)
        ] = None,
        restarts: Annotated[
            int | None, typer.Option(help="More random starts within a problem, the best is kept.", min=0)
        ] = None,
        chunk_size: Annotated[int | None, typer.Option(help="Problems solved and kept together.", min=1)] = None,
        shard: Annotated[str | None, typer.Option(help="i/n: this job's share of n, the first is 0/n.")] = None,
        resume: Annotated[bool, typer.Option(help="Go on with a sweep that is in the folder, or refuse to.")] = True,
        no_figures: Annotated[bool, plain] = False,
    ) -> None:
        """Descramble all layers of files, on all devices. You can stop it at any time; the same command goes on.

        On Ctrl-C and SIGTERM, finished chunks are kept and those in flight are dropped. docs/sweeps.md explains the
        specification.

        Exit codes: 0 all solved; 1 a file could not be read or written; 2 refused; 3 some problem has no answer;
        4 some has no result yet; 130 interrupted; 143 terminated.
        """
        options = {"objectives": objective, "names": name, "samples_first": samples_first, "group": group}
        options |= {"seed": seed, "seeds": seeds, "restarts": restarts, "chunk_size": chunk_size}

        def action() -> None:
            from jaxdescramble.show.sweeps import commands as sweeps

            sweeps.run_sweep(source, options, out, shard, resume, not no_figures)

        _guarded(typer, action)

    @app.command()
    def status(
        folder: Annotated[Path, typer.Argument(help="Where a sweep was run into.")],
        as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    ) -> None:
        """Show how far a sweep is. Exit codes as for `run`."""

        def action() -> None:
            from jaxdescramble.show.sweeps import commands as sweeps

            sweeps.show_status(folder, as_json)

        _guarded(typer, action)

    @app.command()
    def report(
        folder: Annotated[Path, typer.Argument(help="Where a sweep was run into.")],
        source: Annotated[
            Path | None, typer.Option(help="Its arrays or specification, for pictures of the layers.")
        ] = None,
        no_figures: Annotated[bool, plain] = False,
    ) -> None:
        """Write the report of a sweep, finished or not. Exit codes as for `run`."""

        def action() -> None:
            from jaxdescramble.show.sweeps import commands as sweeps

            sweeps.show_report(folder, source, not no_figures)

        _guarded(typer, action)

    return app


def _with_catalogue() -> Any:
    """Return a kind of command whose help ends with the objectives and solvers, collected when the help is shown."""
    from typer.core import TyperCommand

    class WithCatalogue(TyperCommand):
        def format_help(self, ctx: Any, formatter: Any) -> None:
            from jaxdescramble.show.sweeps.commands import catalogue_text

            self.epilog = catalogue_text()
            super().format_help(ctx, formatter)

    return WithCatalogue


def _guarded(typer: Any, action: Any) -> None:
    """One line for what went wrong, unless the environment asks for the traceback."""
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
        return f"{where}{why}. What was written before is whole and stays; the same command goes on.", FAILED
    return " ".join(str(error).split()), REFUSED

"""The entry point: commands are imported when called, and every error leaves with its exit code.

0 fine; 1 a bug of ours; 2 the user's input; 3 the run folder cannot be used; 4 finished, but the diagnostics say do not
trust it; 130 interrupted. Machine results go to stdout, everything else to stderr.
"""

from __future__ import annotations

import difflib
import importlib
import os
import signal
import sys
import traceback
from typing import Any

import click

from nuppl import __version__
from nuppl.errors import InputError, NupplError

__all__ = ["cli", "main"]

COMMANDS = {
    "calibrate": "Test the posteriors of a run on data that its program simulates.",
    "check": "Prove that a model file keeps the contract.",
    "compare": "Lay posteriors and scans of one model side by side.",
    "evidence": "Compare two runs of one data set: Bayes factor, and what it owes to the priors.",
    "export": "Write a posterior for GetDist, a scan for HEPData, or either as CSV.",
    "fit": "Maximise the likelihood: best fit, errors, goodness of fit.",
    "infer": "Draw from the posterior and write a run folder with a report.",
    "report": "Write the HTML report of a run anew.",
    "scan": "Profile the likelihood over a grid; critical values from toys.",
    "show": "Print what a result file or run folder holds, with its verdict.",
    "simulate": "Draw pseudo-experiments, or write the expected data.",
}


class _Commands(click.Group):
    """Subcommands in modules of their own, so that `--help` imports neither torch nor Pyro."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # whoever read has had enough: what still waits goes nowhere, and quietly
            _hush()
            return 0
        except SystemExit as left:
            raise InputError("the model ended the program; expected an error that says why, or a return") from left

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            near = difflib.get_close_matches(cmd_name, COMMANDS, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            ctx.fail(f"unknown command {cmd_name!r}{hint}: expected one of {', '.join(COMMANDS)}")
        module = importlib.import_module(f"nuppl.cli.{cmd_name}")
        return getattr(module, cmd_name)  # type: ignore[no-any-return]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="nuppl")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """From one Pyro program: pseudo-data, posterior, best fit, and whether to trust them."""
    ctx.obj = debug


def main(args: list[str] | None = None) -> None:
    """Run the command line and leave with its exit code."""
    # A batch system that ends a job asks first: like Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Threads that wait for each other spin. Where other programs want the cores too, long spinning makes a batch of
    # densities ten times slower; so short it costs a few per cent elsewhere. Read when torch is first imported.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    arguments = sys.argv[1:] if args is None else args
    sys.exit(_run(arguments))


def _run(arguments: list[str]) -> int:
    debug = "--debug" in arguments
    try:
        # --debug is accepted anywhere on the line.
        outcome: Any = cli.main([a for a in arguments if a != "--debug"], prog_name="nuppl", standalone_mode=False)
        return int(outcome or 0)
    except click.exceptions.Abort:
        return _interrupted()
    except KeyboardInterrupt:
        return _interrupted()
    except click.ClickException as error:
        error.show()
        return 2
    except NupplError as error:
        _complain(str(error), debug)
        return error.exit_code
    except OSError as error:
        _complain(f"{error.strerror or error}: {error.filename or ''}".rstrip(": "), debug)
        return 2
    except Exception as error:
        _complain(
            f"internal error: {type(error).__name__}: {error}\nThis is a bug of nuppl; --debug shows where.", debug
        )
        return 1


def _hush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _interrupted() -> int:
    click.echo("interrupted", err=True)
    return 130


def _complain(message: str, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    click.echo(f"error: {message}", err=True)

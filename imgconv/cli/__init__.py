"""The command line: one file a command, each with a `register(app)`.

Whatever a command raises ends in `Group.main`, as a message, a hint and a status (DESIGN.md, "The
command line"). A traceback goes to the log.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from imgconv import __version__
from imgconv.cli import (
    batch,
    boot_test,
    console,
    demo,
    doctor,
    drivers,
    inspect,
    logs,
    machine,
    undo,
    verify,
    virtio_ize,
)
from imgconv.errors import ImgconvError, UsageError

COMMANDS = (virtio_ize, batch, undo, inspect, verify, boot_test, machine, drivers, demo, doctor)


class _InterruptedError(ImgconvError):
    exit_code = 130  # 128 + SIGINT, as shells have it; Typer reports Ctrl-C by the same number


class Group(TyperGroup):
    def main(self, *args: Any, **extra: Any) -> Any:  # noqa: ANN401 - Typer's own signature
        """Run a command line and raise SystemExit with its status."""
        arguments = extra.get("args")
        as_json = "--json" in (sys.argv[1:] if arguments is None else arguments)
        logs.begin()
        try:
            status = super().main(*args, **{**extra, "standalone_mode": False}) or 0
            if status == _InterruptedError.exit_code:
                raise _InterruptedError(
                    "interrupted", hint="a disk is as it was or, in the last second, completely "
                    "converted: imgconv verify DISK tells which")
        except typer.TyperException as error:
            status = _usage_error(error, as_json=as_json)
        except ImgconvError as error:
            status = console.fail(error, as_json=as_json)
        except Exception as error:
            status = console.fail(console.unforeseen(error), as_json=as_json)
        finally:
            logs.end(keep=False)  # one that is to be kept has been taken by now
        raise SystemExit(status)


    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401 - Typer's own
        """`batch status` is a command, although `batch` is one that takes paths."""
        if args[:2] == batch.STATUS.split():
            args = [batch.STATUS, *args[2:]]
        return super().resolve_command(ctx, args)


def _usage_error(error: typer.TyperException, *, as_json: bool) -> int:
    message = error.format_message()
    if not message:  # no command was given, and Typer has printed the help
        return UsageError.exit_code
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "imgconv"
    return console.fail(UsageError(message, hint=f"see {command} --help"), as_json=as_json)


def _print_version(value: bool) -> None:
    if value:
        print(f"imgconv {__version__}")
        raise typer.Exit


app = typer.Typer(
    cls=Group, no_args_is_help=True, pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=console.examples("imgconv doctor", "imgconv COMMAND --help"))


@app.callback()
def _imgconv(version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True,
                           help="Show the version and exit.")] = False) -> None:
    """Make legacy virtual machine disks boot from virtio: offline, undamaged and proven."""


for _command in COMMANDS:
    _command.register(app)


def main() -> None:
    """The program `imgconv`; always raises SystemExit."""
    # Being told to end must clean up (overlays, the appliance) just like Ctrl-C.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup stays nohup
            signal.signal(number, _terminated)
    app(prog_name="imgconv")


def _terminated(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)

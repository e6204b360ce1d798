"""Help pages: commands in groups, options in panels, examples at the end, in the full width of the terminal."""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand, TyperGroup

from catprune.workspace.options import did_you_mean
from catprune.workspace.terminal import print_line

if TYPE_CHECKING:
    from collections.abc import Generator

#: The first panel, and the last one with the options of every command.
ARGUMENTS, OTHERS = "Arguments", "Options"


class StepCommand(TyperCommand):
    """A command whose options are shown in panels; the lines of the epilog are examples."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The arguments by their metavars."""
        arguments = [parameter for parameter in self.get_params(ctx) if parameter.param_type_name == "argument"]
        return ["[OPTIONS]", *(str(argument.metavar) for argument in arguments)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, then the options by panel."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if parameter.param_type_name == "argument":
                panels.setdefault(ARGUMENTS, []).append((str(parameter.metavar), getattr(parameter, "help", "")))
            elif (record := parameter.get_help_record(ctx)) is not None:
                panel = getattr(parameter, "rich_help_panel", None) or OTHERS
                panels.setdefault(panel, []).append((record[0].strip(" /"), record[1]))
        arguments, others = panels.pop(ARGUMENTS, []), panels.pop(OTHERS, [])
        for panel, records in [(ARGUMENTS, arguments), *panels.items(), (OTHERS, others)]:
            if records:
                with formatter.section(panel):
                    formatter.write_dl(records, col_max=34)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """Write the examples, each on a line of its own."""
        if self.epilog:
            with formatter.section("Examples"):
                for line in self.epilog.splitlines():
                    formatter.write(f"{'':{formatter.current_indent}}{line}\n")


class Commands(TyperGroup):
    """Commands in groups, in the order of their declaration; an unknown one gets the most similar name."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """Parse the command line; mistakes in it are printed like everything else."""
        with _usage_errors():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        with _usage_errors():
            return super().invoke(ctx)

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        """The names of the commands."""
        return list(self.commands)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command of this name."""
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            ctx.fail(f"there is no command {args[0]}{did_you_mean(args[0], list(self.commands))}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """Write the commands by group."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            summary = (command.help or "").partition("\n")[0]
            groups.setdefault(getattr(command, "rich_help_panel", None) or "Commands", []).append((name, summary))
        for group, rows in groups.items():
            with formatter.section(group):
                formatter.write_dl(rows)


def _reword(message: str) -> str:
    """Return a message of the library that checks values, in the words of ours."""
    for kind, words in (("integer", "a whole number"), ("number", "a number")):
        if message.startswith(f"Input should be a valid {kind}"):
            return f"give {words}"
    return message.removeprefix("Value error, ")


@contextlib.contextmanager
def _usage_errors() -> Generator[None]:
    """Print the errors of the command line's library without characters that control a terminal."""
    try:
        yield
    except Exception as error:
        show, code = getattr(error, "show", None), getattr(error, "exit_code", None)
        if show is None or code is None:
            raise
        if isinstance(message := getattr(error, "message", None), str):
            error.message = _reword(message)  # pyright: ignore[reportAttributeAccessIssue]
        text = io.StringIO()
        show(file=text)
        print_line(text.getvalue().rstrip("\n"), error=True)
        raise typer.Exit(code) from None

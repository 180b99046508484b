"""Groups of commands whose help explains itself, and the example at the end of each help."""

import click
import cloup

from modgap.errors import unknown_name


def example(*commands: str) -> str:
    """Return the end of a help text: an example of one or more commands, in lines that are not wrapped."""
    return "\n".join(["\b", "Example:", *(f"  {command}" for command in commands)])


class HelpGroup(cloup.Group):
    """A group that prints its help when it is called without arguments, and suggests similar commands."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Print the help and exit with 0 if there are no arguments; click would exit with 2."""
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help())
            ctx.exit()
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands in the order in which they are defined; click would sort them."""
        return list(self.commands)

    def list_sections(self, ctx: click.Context, include_default_section: bool = True) -> list[cloup.Section]:
        """Return one section with all commands in the same order."""
        return [cloup.Section("Commands", list(self.commands.values()))]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the arguments start with.

        Raises:
            UsageError: When there is no such command; the message contains the most similar names.
        """
        names = self.list_commands(ctx)
        if args and args[0] not in names and not ctx.resilient_parsing:
            raise unknown_name("command", args[0], names)
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help, with the commands before the options."""
        self.format_usage(ctx, formatter)
        self.format_help_text(ctx, formatter)
        self.format_commands(ctx, formatter)
        self.format_params(ctx, formatter)
        self.format_epilog(ctx, formatter)

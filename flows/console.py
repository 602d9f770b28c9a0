"""The console of every command."""

from rich.console import Console


def plain_console(*, stderr: bool = False) -> Console:
    """A console that takes brackets for brackets: ids and texts of data sets are not ours. What is to be styled is a `Text`."""
    return Console(stderr=stderr, markup=False)

"""The command line: each command is a line of the Python API and a printer; the only room that prints."""

from thinice.cli.stopping import watch_for_stop

__all__ = ["console", "main"]


def main() -> None:
    """Run the command line as a function of a living process: Ctrl-C stays what it was there."""
    from thinice.cli.app import main as run  # a third of a second, in which Ctrl-C must work already

    run()


def console() -> None:
    """Run the command line as a process of its own, which Ctrl-C ends at any moment."""
    watch_for_stop()
    main()

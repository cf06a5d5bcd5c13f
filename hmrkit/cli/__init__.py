"""The command line: one thin module a subcommand. Nothing heavy is imported until a command runs.

Paths and JSON go to standard output, messages to standard error. Exit codes: `hmrkit.errors`.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of `hmrkit`: errors made on purpose become one line and their exit code."""
    from hmrkit.cli.app import app
    from hmrkit.errors import EXIT_INTERRUPTED, HmrkitError

    verbose = any(a in ("-v", "--verbose") for a in sys.argv[1:])
    try:
        app()
    except HmrkitError as error:
        if verbose:
            raise
        sys.stderr.write(f"hmrkit: {error}\n")
        sys.exit(error.exit_code)
    except (SystemExit, KeyboardInterrupt) as stop:  # typer turns Ctrl-C into an exit, but for its own last moments
        if isinstance(stop, SystemExit) and stop.code != EXIT_INTERRUPTED:
            raise
        sys.stderr.write("hmrkit: interrupted; the same command goes on from here\n")
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(EXIT_INTERRUPTED)

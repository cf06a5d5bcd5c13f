"""`hmrkit` commands run in the test's own process: as `hmrkit.cli.main` ends them, without seconds of imports."""

import logging
from types import SimpleNamespace

from typer.testing import CliRunner

from hmrkit.cli.app import app
from hmrkit.errors import HmrkitError


def hmrkit(*args, stdin=b""):
    """Run a command; `returncode`, `stdout` (also as `raw` bytes), `stderr` (with what was logged) are as a shell would
    have them."""
    lines, handler = [], logging.Handler(logging.WARNING)
    handler.emit = lambda record: lines.append(f"hmrkit: {record.getMessage()}\n")
    logging.getLogger("hmrkit").addHandler(handler)
    try:
        result = CliRunner().invoke(app, [*map(str, args)], input=stdin)
    finally:
        logging.getLogger("hmrkit").removeHandler(handler)
    error, code = result.exception, result.exit_code
    if isinstance(error, HmrkitError):
        lines.append(f"hmrkit: {error}\n")
        code = error.exit_code
    elif error is not None and not isinstance(error, SystemExit):
        raise error
    raw = result.stdout_bytes
    return SimpleNamespace(
        returncode=code, stdout=raw.decode(errors="replace"), raw=raw, stderr="".join(lines) + result.stderr
    )

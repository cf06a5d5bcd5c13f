"""``python -m hmrkit.benchmark torture --minutes N``: how much harm the chain withstands."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from hmrkit.benchmark.torture import torture


def main() -> None:
    """Counts as a table or JSON; exit code 1 where something was lost."""
    parser = argparse.ArgumentParser(prog="python -m hmrkit.benchmark", description=torture.__doc__)
    parser.add_argument("what", choices=["torture"])
    parser.add_argument("--minutes", type=float, default=2.0, help="how long [2]")
    parser.add_argument("--seed", type=int, default=0, help="which harm is done [0]")
    parser.add_argument("--json", action="store_true", help="print JSON")
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="hmrkit-torture-"))
    counts = torture(chosen.minutes, folder, chosen.seed, lambda line: sys.stderr.write(f"{line}\n"))
    if chosen.json:
        sys.stdout.write(json.dumps({name: vars(count) for name, count in counts.items()}, indent=1) + "\n")
    else:
        for name, count in counts.items():
            lost = len(count.lost)
            sys.stdout.write(f"{name:<16} tried {count.tried}, survived {count.survived}, lost {lost}\n")
    if any(count.lost for count in counts.values()):
        sys.stderr.write(f"what was lost is in {folder}\n")
        sys.exit(1)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()

"""How much harm the chain and batches withstand: ``python -m hmrkit.benchmark torture``, or ``soak``."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path


def main() -> None:
    """Figures as a table or JSON; exit code 1 where something was lost."""
    parser = argparse.ArgumentParser(prog="python -m hmrkit.benchmark", description=__doc__)
    parser.add_argument("what", choices=["torture", "soak"])
    parser.add_argument("--minutes", type=float, default=2.0, help="how long the torture takes [2]")
    parser.add_argument("--clips", type=int, default=1000, help="how many clips the soak has [1000]")
    parser.add_argument("--seed", type=int, default=0, help="which harm is done [0]")
    parser.add_argument("--json", action="store_true", help="print JSON")
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix=f"hmrkit-{chosen.what}-"))
    if (_torture if chosen.what == "torture" else _soak)(chosen, folder):
        sys.stderr.write(f"what was lost is in {folder}\n")
        sys.exit(1)
    shutil.rmtree(folder)


def _torture(chosen: argparse.Namespace, folder: Path) -> bool:
    """Whether something was lost."""
    from hmrkit.benchmark.torture import torture

    counts = torture(chosen.minutes, folder, chosen.seed, _say)
    if chosen.json:
        sys.stdout.write(json.dumps({name: vars(count) for name, count in counts.items()}, indent=1) + "\n")
    else:
        for name, count in counts.items():
            lost = len(count.lost)
            sys.stdout.write(f"{name:<16} tried {count.tried}, survived {count.survived}, lost {lost}\n")
    return any(count.lost for count in counts.values())


def _soak(chosen: argparse.Namespace, folder: Path) -> bool:
    """Whether a clip was lost or done twice."""
    from hmrkit.benchmark.soak import soak

    result = soak(chosen.clips, folder, chosen.seed, progress=_say)
    if chosen.json:
        sys.stdout.write(json.dumps(vars(result) | {"overhead_ms": result.overhead_ms}, indent=1) + "\n")
    else:
        sys.stdout.write(
            f"{result.clips} clips, {result.kills} kills, {result.seconds:.0f} s\n"
            f"lost {len(result.lost)}, done twice {len(result.twice)}\n"
            f"work {result.work_ms:.1f} ms a clip, beside it {result.overhead_ms:.1f} ms; "
            f"a finished clip {result.kept_ms:.1f} ms\n"
            f"of 100,000 inputs the first starts in {result.start_s:.1f} s ({result.start_cpu_s:.1f} s CPU)\n"
            f"written beside the results {result.bytes_beside:.0f} bytes a clip\n"
            f"memory {' -> '.join(f'{mb:.0f}' for mb in result.memory_mb)} MB\n"
        )
    for line in (*result.lost[:10], *result.twice[:10]):
        _say(line)
    return bool(result.lost or result.twice)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    main()

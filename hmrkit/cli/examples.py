"""An example for the end of each command's help: the shortest that does what most people come for."""

from __future__ import annotations

EXAMPLES = {
    "run": "hmrkit run clip.mp4 --out meshes/ --render overlay.mp4",
    "detect": "hmrkit detect clip.mp4 -o take.npz",
    "track": "hmrkit track take.npz -o take.npz",
    "pose": "hmrkit pose take.npz -o take.npz",
    "regress": "hmrkit regress take.npz --method fit -o take.npz",
    "lift": "hmrkit lift take.npz -o take.npz",
    "calibrate": "hmrkit calibrate take.npz -o take.npz",
    "export": "hmrkit export take.npz --format fbx,usd --space world --out shots/",
    "render": "hmrkit render take.npz --view overlay,side --out look.mp4",
    "view": "hmrkit view take.npz --html look.html",
    "import": "hmrkit import wham_output.pkl --video clip.mp4 -o take.npz",
    "convert-body": "hmrkit convert-body take.npz --to default -o free.npz",
    "cut": "hmrkit cut take.npz --people 1 --start 100 --end 200 -o part.npz",
    "merge": "hmrkit merge part.npz other.npz -o both.npz",
    "list": "hmrkit list methods",
    "info": "hmrkit info take.npz",
    "plot": "hmrkit plot take.npz --what angles,speed --format png,csv -o plots/",
    "compare": "hmrkit compare fit.npz spin.npz --out difference/ --strip",
    "bench": "hmrkit bench clip.mp4 --render",
    "doctor": "hmrkit doctor --quick",
    "docs": "hmrkit docs methods",
    "eval": "hmrkit eval --dataset synthetic --method hmr,spin,fit --out evaluation/",
}


def epilog(command: str) -> str:
    """What stands at the end of a command's help; lines stay as they are (click's ``\\b``)."""
    return f"\b\nExample:\n  {EXAMPLES[command]}"

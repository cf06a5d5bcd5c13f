"""An example for the end of each command's help: the shortest that does what most people come for; and short helps."""

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


BEGIN = """\b
Begin with:
  hmrkit run clip.mp4 --out meshes/ --render overlay.mp4
  hmrkit view meshes/clip/take.npz --html look.html
  hmrkit doctor     would it run here, and what to do where not
  hmrkit docs       pages on methods, formats, batches, training
"""

# In the list of commands, where a help's first sentence is too long for a line of 80 characters.
SHORT = {
    "lift": "The 3D pose of every person through time.",
    "render": "Draw the meshes over the footage, from the side, around.",
    "view": "Look at a take in a browser.",
    "import": "Make a take of another tool's results.",
    "convert-body": "Fit another body to the final meshes of a take.",
    "cut": "Keep some people and frames of a take.",
    "info": "Say what is in a take, a video or a mesh file.",
    "plot": "Plot angles, heights, speed, contact of people over time.",
    "compare": "Compare two takes of one clip joint by joint.",
    "bench": "Measure time per stage, frames per second, memory.",
    "doctor": "Would it run here, and what to do where not.",
    "docs": "Print a page of the documentation, or list the pages.",
    "eval": "Score methods, or results made elsewhere, on a dataset.",
    "report": "What became of the clips of a batch.",
    "rig": "Rigs: which bones of a character people drive.",
}


def epilog(command: str) -> str:
    """What stands at the end of a command's help; lines stay as they are (click's ``\\b``)."""
    return f"\b\nExample:\n  {EXAMPLES[command]}"

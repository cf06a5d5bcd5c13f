"""hmrkit: video in, 3D meshes of the people in it out. Importing this loads neither torch nor any model."""

__version__ = "0.1.0"


def run(path, method="pc-hmr", device="auto", **options):
    """Run one clip through the chain and return its `Take`; keywords are `hmrkit.pipeline.Options`' fields."""
    from hmrkit.pipeline import Models, Options, open_clip, run_stages, stages_of

    chosen = Options(method=method, device=device, **options)
    return run_stages(open_clip(path, chosen), stages_of(method), Models(chosen))


def export(take, out, formats=("npz", "obj"), device="auto", body=None, gender="neutral", **options):
    """Write a take's people in each of `formats` under `out`; returns the paths.

    `body` and `gender` must be those that the take was made with; keywords are `hmrkit.scene.ExportOptions`' fields.
    """
    from pathlib import Path

    from hmrkit.exporters import check_formats
    from hmrkit.output import export_take
    from hmrkit.pipeline import Models, Options
    from hmrkit.scene import ExportOptions

    models = Models(Options(device=device, body=body, gender=gender))
    return export_take(take, Path(out), check_formats(formats), models, lambda *_: None, ExportOptions(**options))

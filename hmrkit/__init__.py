"""hmrkit: video in, 3D meshes of the people in it out. Importing this loads neither torch nor any model."""

__version__ = "0.2.0"


def run(path, method="pc-hmr", device="auto", **options):
    """Run one clip through the chain and return its `Take`; keywords are `hmrkit.options.Options`' fields."""
    from hmrkit.models import Models
    from hmrkit.options import Options
    from hmrkit.pipeline import open_clip, run_stages, stages_of

    chosen = Options(method=method, device=device, **options)
    return run_stages(open_clip(path, chosen), stages_of(chosen), Models(chosen))


def export(take, out, formats=("npz", "obj"), device="auto", body=None, gender="neutral", **options):
    """Write a take's people in each of `formats` under `out`; returns the paths.

    `body` must be the file that the take was made with, where that was no free body; keywords are
    `hmrkit.scene.ExportOptions`' fields.
    """
    from pathlib import Path

    from hmrkit.exporters import check_format_options, check_formats
    from hmrkit.exporters.writing import export_take
    from hmrkit.models import Models
    from hmrkit.options import Options
    from hmrkit.pipeline import adopted
    from hmrkit.scene import ExportOptions

    models = Models(adopted(Options(device=device, body=body, gender=gender), take, ()))
    names, chosen = check_formats(formats), ExportOptions(**options)
    check_format_options(names, chosen)
    return export_take(take, Path(out), names, models, lambda *_: None, chosen)

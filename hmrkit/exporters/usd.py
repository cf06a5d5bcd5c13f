"""USD (``.usdc``): every person a UsdSkel character in their own shape; the camera that filmed them.

The stage's time codes are frame numbers, at `timeCodesPerSecond` = the exact rate; `upAxis` and `metersPerUnit` are the
scene's. A person who is not seen is invisible, and for importers that leave that out the root joint has next to no
scale (of exact vertices the points). With ``exact`` a second file, ``NAME_exact.usdc``, holds the final
(calibrated) vertices as time samples; it is saved as it grows, so memory does not depend on the length of the clip.
With ``texture`` its image lies beside the stages, which name it relative to themselves.

Needs the package usd-core (Modified Apache 2.0), which `hmrkit.exporters.usd_stage` imports.
"""

from __future__ import annotations

from pathlib import Path

from hmrkit.errors import UsageError
from hmrkit.exporters.textures import write_texture
from hmrkit.scene import ExportOptions, Scene
from hmrkit.scene.staging import staged


class UsdExporter:
    """``NAME.usdc`` with everyone in it, or one file a person with ``per_person``; with ``exact`` one more each."""

    def write(self, scene: Scene, folder: Path, options: ExportOptions) -> list[Path]:
        """Write the files; returns their paths. UsageError without usd-core, InputError where one cannot be written."""
        try:
            from hmrkit.exporters import usd_stage
        except ImportError:
            raise UsageError("the usd format needs usd-core; pip install 'hmrkit[usd]'") from None
        paths = []
        texture = write_texture(scene, folder)
        for part in staged(scene, options).parts(options.per_person):
            paths.append(Path(folder) / f"{part.name}.usdc")
            usd_stage.write_stage(paths[-1], part, usd_stage.add_rig, camera=options.camera)
            if options.exact:
                paths.append(Path(folder) / f"{part.name}_exact.usdc")
                usd_stage.write_stage(paths[-1], part, usd_stage.add_points, camera=options.camera)
        return paths + texture

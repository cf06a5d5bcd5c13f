"""An exporter that writes how many people there are."""

from hmrkit.files import atomic_path


class CountExporter:
    def write(self, scene, folder, options):
        path = folder / f"{scene.name}.count"
        with atomic_path(path) as temporary:
            temporary.write_text(f"{len(scene.characters)}\n")
        return [path]

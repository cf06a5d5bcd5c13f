"""Images of meshes without a display: rasteriser, shading, overlay video, contact sheet."""

"""Meshes painted by OpenGL without a display (EGL, through moderngl): what `shading.draw_meshes` draws, laid over what
is behind.

The rules are those of `rasteriser`, and a GPU has the same ones: corners on a grid of 1/256 sample, 1/z linear over
the image, the lower face where depths are equal. So corners come snapped, and already projected (w = 1). The viewport
is a power of two wide and high, which keeps them exact on their way through clip space. Depth has 24 bits, spread over
what one image holds from its nearest vertex to its furthest. Colours and the lines of wireframes are linear over a
face, as elsewhere. What differs: a sample exactly on an outline belongs to half of the edges (the top-left rule), not
to all of them; lines of wireframes are measured from the snapped corners, and colours are half floats until they are
averaged.

An image is drawn at `SAMPLES` times its size, block by block, then averaged and blended in a second pass.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np

from hmrkit.errors import DeviceError, UsageError, reason_of
from hmrkit.rendering.rasteriser import SUBPIXELS
from hmrkit.rendering.shading import SAMPLES, WIRE_FILL, WIRE_SHARE

log = logging.getLogger(__name__)
# Pixels along the side of what is drawn at once; a power of two. The textures take 8 (colour) + 4 (depth) bytes a
# sample and 7 a pixel: 220 MiB.
BLOCK = 2048
VERSION = 330  # OpenGL 3.3
CORNERS = f"""
#version {VERSION}
in vec3 corner;  // samples from the first sample's centre, and depth from 0 to 1
in vec3 colour;
out vec3 corner_colour;
void main() {{
    gl_Position = vec4((corner.xy + 0.5) * {2 / (BLOCK * SAMPLES)} - 1.0, 2.0 * corner.z - 1.0, 1.0);
    corner_colour = colour;
}}
"""
# Gives each corner its distance from the edge opposite, which is linear over the face.
EDGES = f"""
#version {VERSION}
layout(triangles) in;
layout(triangle_strip, max_vertices = 3) out;
in vec3 corner_colour[];
out vec3 colour;
out vec3 distances;  // samples
flat out float line;  // samples: how far from an edge its line reaches
void main() {{
    vec2 ends[3];
    for (int k = 0; k < 3; k++) ends[k] = gl_in[k].gl_Position.xy * {BLOCK * SAMPLES / 2};
    vec2 a = ends[1] - ends[0], b = ends[2] - ends[0];
    float area = abs(a.x * b.y - a.y * b.x);
    vec3 lengths = max(vec3(length(b - a), length(b), length(a)), 1e-6);
    line = min({WIRE_SHARE} * area / (lengths.x + lengths.y + lengths.z), {SAMPLES / 2});
    for (int k = 0; k < 3; k++) {{
        gl_Position = gl_in[k].gl_Position;
        colour = corner_colour[k];
        distances = vec3(0.0);
        distances[k] = area / lengths[k];
        EmitVertex();
    }}
    EndPrimitive();
}}
"""
SURFACE = f"""
#version {VERSION}
uniform float fill;  // coverage between the lines
in vec3 colour;
in vec3 distances;
flat in float line;
out vec4 layer;
void main() {{
    float share = min(min(distances.x, distances.y), distances.z) < line ? 1.0 : fill;
    layer = vec4(clamp(colour, 0.0, 1.0) * share, share);
}}
"""
EVERYWHERE = f"""
#version {VERSION}
void main() {{ gl_Position = vec4(vec2(gl_VertexID & 1, gl_VertexID >> 1) * 4.0 - 1.0, 0.0, 1.0); }}
"""
BLEND = f"""
#version {VERSION}
uniform sampler2D layer;
uniform usampler2D behind;
uniform float opacity;
uniform bool straight;
out uvec4 image;
void main() {{
    ivec2 pixel = ivec2(gl_FragCoord.xy);
    vec4 mean = vec4(0.0);
    for (int y = 0; y < {SAMPLES}; y++)
        for (int x = 0; x < {SAMPLES}; x++)
            mean += texelFetch(layer, pixel * {SAMPLES} + ivec2(x, y), 0) / {float(SAMPLES**2)};
    if (straight) {{  // what was drawn, not darkened where it covers little
        image = uvec4(vec4(mean.rgb / max(mean.a, 1e-6) * 255.0, mean.a * 255.0 * opacity) + 0.5);
    }} else {{
        vec3 under;
        for (int c = 0; c < 3; c++) under[c] = float(texelFetch(behind, ivec2(pixel.x * 3 + c, pixel.y), 0).r);
        under *= 1.0 - opacity * mean.a;
        image = uvec4(uvec3(under + mean.rgb * (255.0 * opacity) + 0.5), 255u);
    }}
}}
"""


@contextlib.contextmanager
def open_gl() -> Iterator[GlPainter]:
    """A painter with an OpenGL context of its own, for the thread that opens it.

    UsageError where moderngl is not installed, DeviceError where EGL gives no context.
    """
    try:
        moderngl = importlib.import_module("moderngl")
    except ImportError:
        raise UsageError("--renderer gl needs moderngl, which is not installed; pip install 'hmrkit[gl]'") from None
    with contextlib.ExitStack() as stack:
        try:  # moderngl and glcontext raise Exception itself
            context = moderngl.create_context(require=VERSION, standalone=True, backend="egl")
        except Exception as error:
            raise DeviceError(
                f"--renderer gl wants OpenGL {VERSION / 100:.1f} by EGL, which is not here ({reason_of(error)}); "
                "install the graphics card's driver with libEGL and libGL, or use --renderer auto"
            ) from error
        stack.callback(context.release)  # with all that was made in it
        try:
            with context:
                painter = GlPainter(context)
        except Exception as error:
            name = context.info["GL_RENDERER"]
            raise DeviceError(f"--renderer gl: {name} failed ({reason_of(error)}); use --renderer auto") from error
        log.info("OpenGL draws by %s", painter.name)
        yield painter


class GlPainter:
    """A `hmrkit.rendering.painting.Painter`; `name` is what draws."""

    threads = False  # a context belongs to one

    def __init__(self, context: Any) -> None:
        self.name = context.info["GL_RENDERER"]
        self._context = context
        side = BLOCK * SAMPLES
        self._behind = context.texture((BLOCK * 3, BLOCK), 1, dtype="u1")
        layer, image = context.texture((side, side), 4, dtype="f2"), context.texture((BLOCK, BLOCK), 4, dtype="u1")
        self._samples = context.framebuffer([layer], context.depth_texture((side, side), renderbuffer=True))
        self._image = context.framebuffer([image])
        self._surface = context.program(vertex_shader=CORNERS, geometry_shader=EDGES, fragment_shader=SURFACE)
        self._blend = context.program(vertex_shader=EVERYWHERE, fragment_shader=BLEND)
        self._blend["behind"] = 1
        self._everywhere = context.vertex_array(self._blend, [])
        layer.use(0)
        self._behind.use(1)
        context.depth_func = "<"
        context.front_face, context.cull_face = "cw", "back"  # as seen here, where y points down

    def paint(
        self, image: np.ndarray, corners: np.ndarray, colours: np.ndarray, faces: np.ndarray, opacity: float, wire: bool
    ) -> None:
        """See `Painter`."""
        height, width = image.shape[:2]
        usable = np.isfinite(corners).all(-1).ravel()
        rows = (np.arange(len(corners))[:, None, None] * corners.shape[1] + faces).reshape(-1, 3)
        if not usable.all():
            rows = rows[usable[rows].all(1)]
        if not len(rows):
            return
        vertices = np.zeros((*corners.shape[:2], 6), np.float32)
        near, far = np.nanmax(corners[..., 2]), np.nanmin(corners[..., 2])
        vertices[..., 2] = (near - corners[..., 2]) / max(near - far, np.finfo(np.float32).tiny)
        vertices[..., 3:] = colours
        with self._context as context:  # current here alone, so that it disturbs no other one
            index = context.buffer(np.ascontiguousarray(rows, np.int32))
            self._surface["fill"] = WIRE_FILL if wire else 1.0
            self._blend["opacity"], self._blend["straight"] = opacity, image.shape[2] == 4
            for top in range(0, height, BLOCK):
                for left in range(0, width, BLOCK):
                    vertices[..., :2] = corners[..., :2] / SUBPIXELS - np.array([left, top]) * SAMPLES
                    self._draw(image[top : top + BLOCK, left : left + BLOCK], vertices, index)
            index.release()

    def _draw(self, image: np.ndarray, vertices: np.ndarray, index: Any) -> None:
        """Draw and blend one block."""
        context, (height, width, channels) = self._context, image.shape
        if channels == 3:
            self._behind.write(np.ascontiguousarray(image), (0, 0, width * 3, height))
        buffer = context.buffer(vertices)
        meshes = context.vertex_array(self._surface, [(buffer, "3f 3f", "corner", "colour")], index)
        self._samples.use()
        self._samples.scissor = 0, 0, width * SAMPLES, height * SAMPLES
        self._samples.clear()
        context.enable_only(context.DEPTH_TEST | context.CULL_FACE)
        meshes.render()
        self._image.use()
        self._image.scissor = 0, 0, width, height
        context.enable_only(context.NOTHING)
        self._everywhere.render(vertices=3)
        read = self._image.read((0, 0, width, height), channels, dtype="u1")
        image[:] = np.frombuffer(read, np.uint8).reshape(image.shape)
        meshes.release()
        buffer.release()

"""Meshes painted on a CPU by compiled loops (Numba): what `shading.draw_meshes` draws, laid over what is behind.

The rules are those of `rasteriser`: the same snapped corners, the same samples covered, the lower face where depths
are equal. What differs is the order of the work. Loops touch a sample only where a face covers it. An image is made in
bands of rows that fit a core's cache, and a band's samples become bytes of the image at once, so that memory holds no
samples of whole images.

Importing this module compiles it once on a machine. Numba keeps the result beside this file, or in the user's cache,
and makes it again when this file changes; so constants of other modules stand here once more. A test holds both ways
of drawing equal.
"""

from __future__ import annotations

import numpy as np
from numba import njit

SAMPLES, SUBPIXELS = 2, 256
BAND = 32  # rows of pixels
ZERO, HALF, ONE = np.float32(0), np.float32(0.5), np.float32(1)


@njit(nogil=True, error_model="numpy")
def _fill(points, face, number, first_row, last_row, nearest, shown):
    """Note face `number` in rows of samples wherever it is the nearest one."""
    i, j, k = face
    ax, ay, bx, by, cx, cy = points[i, 0], points[i, 1], points[j, 0], points[j, 1], points[k, 0], points[k, 1]
    az, bz, cz = points[i, 2], points[j, 2], points[k, 2]
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    # 1/z is linear over the image.
    grad_x = ((bz - az) * (cy - ay) - (cz - az) * (by - ay)) * SUBPIXELS / area
    grad_y = ((cz - az) * (bx - ax) - (bz - az) * (cx - ax)) * SUBPIXELS / area
    z_at_0 = az - (grad_x * ax + grad_y * ay) / SUBPIXELS
    z_low, z_high = min(az, bz, cz), max(az, bz, cz)
    # From top to bottom a, b, c: the edge ac bounds all rows from one side, ab and then bc from the other.
    if ay > by:
        ax, ay, bx, by = bx, by, ax, ay
    if by > cy:
        bx, by, cx, cy = cx, cy, bx, by
    if ay > by:
        ax, ay, bx, by = bx, by, ax, ay
    # An edge crosses row y at (k + y s) / d; all three are whole numbers below 2**53, so no quotient rounds onto one.
    k_ac, s_ac, d_ac = ax * (cy - ay) - ay * (cx - ax), (cx - ax) * SUBPIXELS, (cy - ay) * SUBPIXELS
    k_ab, s_ab, d_ab = ax * (by - ay) - ay * (bx - ax), (bx - ax) * SUBPIXELS, (by - ay) * SUBPIXELS
    k_bc, s_bc, d_bc = bx * (cy - by) - by * (cx - bx), (cx - bx) * SUBPIXELS, (cy - by) * SUBPIXELS
    top, bottom = max(int(np.ceil(ay / SUBPIXELS)), first_row), min(int(np.floor(cy / SUBPIXELS)), last_row)
    below = int(np.floor(by / SUBPIXELS)) + 1 if ay < by else top
    for y in range(top, bottom + 1):
        one = (s_ac * y + k_ac) / d_ac
        other = (s_ab * y + k_ab) / d_ab if y < below else (s_bc * y + k_bc) / d_bc
        first = int(np.ceil(max(min(one, other), 0.0)))
        last = int(np.floor(min(max(one, other), nearest.shape[1] - 1.0)))
        if last < first:
            continue
        # Clamped, because on an edge-on face the snapped outline can reach where its plane runs off to anywhere.
        z_row = grad_y * y + z_at_0
        z_first = min(max(z_row + grad_x * first, z_low), z_high)
        z_last = min(max(z_row + grad_x * last, z_low), z_high)
        start, step = np.float32(z_first), np.float32((z_last - z_first) / max(last - first, 1))
        for x in range(first, last + 1):
            z = start + step * np.float32(x - first)
            if z > nearest[y - first_row, x]:
                nearest[y - first_row, x] = z
                shown[y - first_row, x] = number


@njit(nogil=True, error_model="numpy")
def _value(plane, x, y):
    return min(max(plane[0] + plane[1] * x + plane[2] * y, ZERO), ONE)


@njit("void(u1[:,:,:], f8[:,:,::1], f4[:,:,::1], i8[:,::1], f4)", cache=True, nogil=True, error_model="numpy")
def paint(image, corners, colours, faces, opacity):
    """Lay M meshes over `image` (H,W,3) uint8, in place.

    `corners` (M,V,3) are `rasteriser.snapped_corners` in samples, `colours` (M,V,3) in [0, 1]. Faces (F,3) seen
    from behind are left out.
    """
    height, width, _ = image.shape
    # Of each face that is seen from the front in these rows: mesh, face, rows, and each channel as a plane over it.
    listed = np.empty((len(corners) * len(faces), 4), np.int32)
    planes = np.empty((len(listed), 3, 3), np.float32)
    count = 0
    for mesh in range(len(corners)):
        for face in range(len(faces)):
            i, j, k = faces[face]
            ax, ay = corners[mesh, i, 0], corners[mesh, i, 1]
            bx, by = corners[mesh, j, 0] - ax, corners[mesh, j, 1] - ay
            cx, cy = corners[mesh, k, 0] - ax, corners[mesh, k, 1] - ay
            area = bx * cy - by * cx
            top = max(np.ceil((ay + min(by, cy, 0.0)) / SUBPIXELS), 0.0)
            bottom = min(np.floor((ay + max(by, cy, 0.0)) / SUBPIXELS), SAMPLES * height - 1.0)
            if not (area < 0 and top <= bottom):  # nor where there is a NaN
                continue
            listed[count, 0], listed[count, 1], listed[count, 2], listed[count, 3] = mesh, face, top, bottom
            ax, ay, per_area = ax / SUBPIXELS, ay / SUBPIXELS, SUBPIXELS / area
            for c in range(3):
                a = np.float64(colours[mesh, i, c])
                b, d = colours[mesh, j, c] - a, colours[mesh, k, c] - a
                across, down = (b * cy - d * by) * per_area, (d * bx - b * cx) * per_area
                planes[count, c, 0] = a - across * ax - down * ay
                planes[count, c, 1], planes[count, c, 2] = across, down
            count += 1

    nearest = np.empty((SAMPLES * BAND, SAMPLES * width), np.float32)
    shown = np.empty((SAMPLES * BAND, SAMPLES * width), np.int32)
    for start in range(0, height, BAND):
        first, last = start * SAMPLES, min(start + BAND, height) * SAMPLES - 1
        nearest[:] = 0
        shown[:] = -1
        for n in range(count):
            mesh, face, top, bottom = listed[n]
            if top <= last and bottom >= first:
                _fill(corners[mesh], faces[face], n, first, last, nearest, shown)
        for y in range(start, min(start + BAND, height)):
            row = (y - start) * SAMPLES
            for x in range(width):
                column = x * SAMPLES
                n = shown[row, column]
                whole = n == shown[row, column + 1] and n == shown[row + 1, column] and n == shown[row + 1, column + 1]
                if whole and n < 0:
                    continue
                red = green = blue = covered = ZERO
                # Colours are linear over a face: where all samples see one, its middle is their mean.
                for s in range(1 if whole else SAMPLES**2):
                    n = shown[row + s // SAMPLES, column + s % SAMPLES]
                    if n >= 0:
                        at_x = np.float32(column + s % SAMPLES) + (HALF if whole else ZERO)
                        at_y = np.float32(y * SAMPLES + s // SAMPLES) + (HALF if whole else ZERO)
                        red += _value(planes[n, 0], at_x, at_y)
                        green += _value(planes[n, 1], at_x, at_y)
                        blue += _value(planes[n, 2], at_x, at_y)
                        covered += ONE
                share = opacity if whole else opacity / np.float32(SAMPLES**2)
                behind, front = ONE - share * covered, share * np.float32(255)
                image[y, x, 0] = np.uint8(np.float32(image[y, x, 0]) * behind + (red * front + HALF))
                image[y, x, 1] = np.uint8(np.float32(image[y, x, 1]) * behind + (green * front + HALF))
                image[y, x, 2] = np.uint8(np.float32(image[y, x, 2]) * behind + (blue * front + HALF))

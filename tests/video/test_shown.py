"""Frames as players show them: each kind of footage in a small clip whose colours and places are known beforehand."""

from __future__ import annotations

import struct
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from hmrkit.errors import InputError
from hmrkit.video import probe, read_frames
from hmrkit.video.colour import GREY, Colour, colour_of, tone_map
from hmrkit.video.images import read_image
from hmrkit.video.index import index_video

WIDTH, HEIGHT = 64, 48
STRIPES = np.array(
    [
        *[(220, 40, 40), (40, 200, 60), (40, 60, 220), (235, 235, 235)],
        *[(128, 128, 128), (0, 255, 255), (250, 200, 30), (16, 16, 16)],
    ],
    float,
)
LUMA = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 9: (0.2627, 0.0593)}  # Kr, Kb of BT.709, BT.601, BT.2020
LIMITED, FULL, UNTAGGED = 1, 2, 2


def scene(width=WIDTH, height=HEIGHT) -> np.ndarray:
    """Eight upright stripes, dark in the top left quarter of the left half: no flip or rotation leaves it as it is."""
    image = STRIPES[np.arange(width) * 8 // width].astype(np.uint8)[None].repeat(height, 0)
    image[: height // 4, : width // 2] = 16
    return image


def to_yuv(rgb: np.ndarray, matrix: int, full: bool, bits: int = 8) -> list[np.ndarray]:
    """Planes of 4:2:0 Y'CbCr by BT.601 / 709 / 2020 and BT.2100 table 9, from the definition."""
    kr, kb = LUMA[matrix]
    r, g, b = np.moveaxis(rgb / 255, -1, 0)
    y = kr * r + (1 - kr - kb) * g + kb * b
    u, v = (((c - y) / 2 / (1 - k))[::2, ::2] for c, k in ((b, kb), (r, kr)))
    one, scale = 2**bits - 1, 2 ** (bits - 8)
    if full:
        return [(y * one).round(), *((c * one + 128 * scale).round() for c in (u, v))]
    return [((16 + 219 * y) * scale).round(), *(((128 + 224 * c) * scale).round() for c in (u, v))]


def film(
    path: Path, planes, count=3, pix_fmt="yuv420p", codec="libx264", tags=None, options=None, aspect=None, size=None
) -> Path:
    """A clip without loss of `count` frames with these planes, or those that `planes(n)` gives."""
    make = planes if callable(planes) else lambda n: planes
    width, height = size or make(0)[0].shape[::-1]
    with av.open(str(path), "w") as container:
        options = {"qp": "0", "bf": "0"} if options is None and codec == "libx264" else options or {}
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        for name, value in (tags or {}).items():
            setattr(stream.codec_context, name, value)
        for n in range(count):
            frame = av.VideoFrame(width, height, pix_fmt)
            for plane, values in zip(frame.planes, make(n), strict=True):
                rows = np.ascontiguousarray(values.astype(np.uint16 if "1" in pix_fmt[4:] else np.uint8))
                rows = rows.reshape(len(rows), -1).view(np.uint8)
                padded = np.zeros((len(rows), plane.line_size), np.uint8)
                padded[:, : rows.shape[1]] = rows
                plane.update(padded.tobytes())
            for name in ("colorspace", "color_range"):
                if name in (tags or {}):
                    setattr(frame, name, tags[name])
            frame.pts, frame.time_base = n, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def plain_film(path: Path, image: np.ndarray | None = None, **options) -> Path:
    return film(path, to_yuv(scene() if image is None else image, 5, False), **options)


def frames_of(path: Path, backend="auto", **options) -> np.ndarray:
    return np.concatenate([b.frames for b in read_frames(probe(path, **options), backend=backend)])


def assert_stripes(image: np.ndarray, levels: int = 3) -> None:
    """The middles of the eight stripes, below the dark quarter."""
    width = image.shape[1]
    seen = image[image.shape[0] * 3 // 4, width // 16 :: width // 8].astype(float)
    np.testing.assert_allclose(seen, STRIPES, atol=levels)


# Geometry.

ONE = 65536
MATRICES = {
    "hflip": ((-1, 0, 0, 1), lambda s: s[:, ::-1]),
    "vflip": ((1, 0, 0, -1), lambda s: s[::-1]),
    "transpose": ((0, 1, 1, 0), lambda s: s.transpose(1, 0, 2)),
    "antitranspose": ((0, -1, -1, 0), lambda s: s.transpose(1, 0, 2)[::-1, ::-1]),
    "clockwise": ((0, 1, -1, 0), lambda s: np.rot90(s, -1)),
    "half": ((-1, 0, 0, -1), lambda s: s[::-1, ::-1]),
}


def patch_box(path: Path, name: bytes, offset: int, content: bytes) -> None:
    data = bytearray(path.read_bytes())
    place = data.find(name) + offset
    data[place : place + len(content)] = content
    path.write_bytes(data)


def set_matrix(path: Path, numbers) -> None:
    a, b, c, d = (n * ONE for n in numbers)
    patch_box(path, b"tkhd", 44, struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30))


@pytest.mark.parametrize("kind", MATRICES)
def test_the_display_matrix_is_a_matrix(tmp_path, kind):
    numbers, shown = MATRICES[kind]
    path = plain_film(tmp_path / "a.mp4")
    stored = frames_of(path)[0]
    set_matrix(path, numbers)
    info = probe(path)
    frames = frames_of(path)
    np.testing.assert_array_equal(frames[0], shown(stored))
    assert frames.shape[1:3] == (info.height, info.width)
    assert any("mirrored" in note for note in info.notes) == (kind not in ("clockwise", "half"))


@pytest.mark.parametrize(("aspect", "size"), [((64, 45), (91, 48)), ((8, 9), (57, 48)), ((640, 641), (64, 48))])
def test_pixels_are_made_square(tmp_path, aspect, size):
    path = plain_film(tmp_path / "a.mp4", aspect=Fraction(*aspect))
    info = probe(path)
    assert (info.width, info.height) == size
    assert bool(info.notes) == (size != (64, 48))
    image = frames_of(path)[0]
    assert image.shape[1::-1] == size
    middles = ((np.arange(8) + 0.5) * size[0] / 8).astype(int)
    np.testing.assert_allclose(image[36, middles], STRIPES, atol=12)
    set_matrix(path, (0, 1, -1, 0))  # the pixels' shape is that of the stored frame
    assert (probe(path).width, probe(path).height) == size[::-1]


def test_a_clean_aperture_is_cut_out(tmp_path):
    path = plain_film(tmp_path / "a.mp4")
    stored = frames_of(path)[0]
    # The box is added at the sample entry's end, and the boxes around it grow.
    data = bytearray(path.read_bytes())
    assert data.find(b"mdat") < data.find(b"moov"), "chunk offsets would have to move"
    moov = data.find(b"moov")
    entry = data.find(b"avc1", moov) - 4
    (size,) = struct.unpack(">I", data[entry : entry + 4])
    clap = struct.pack(">I4s8i", 40, b"clap", 40, 1, 30, 1, 2, 1, -3, 1)  # middle 2 right of and 3 above the frame's
    data[entry + size : entry + size] = clap
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1"):
        place = data.find(name, moov) - 4
        data[place : place + 4] = struct.pack(">I", struct.unpack(">I", data[place : place + 4])[0] + 40)
    path.write_bytes(data)
    np.testing.assert_array_equal(frames_of(path)[0], stored[6:36, 14:54])
    assert probe(path).notes == ("cropped from 64x48 to 40x30 as its metadata says",)


def test_matroska_cropping(tmp_path):
    path = plain_film(tmp_path / "a.mkv")
    stored = frames_of(path)[0]
    # Of the track's header, Video holds two numbers that are kept; what lies behind it up to a Void's end may go.
    data = path.read_bytes()
    start = data.index(b"\xe0\x8a\xb0\x81")
    kept = data[start + 2 : start + 8]
    crops = b"".join(struct.pack(">HBB", *c) for c in ((0x54CC, 0x81, 4), (0x54BB, 0x81, 2), (0x54DD, 0x81, 8)))
    crops += struct.pack(">HBB", 0x54AA, 0x81, 6)
    room = data.index(b"\x63\xa2", start) - start  # CodecPrivate follows
    video = bytes([0xE0, 0x80 + len(kept + crops)]) + kept + crops
    void = bytes([0xEC, 0x80 + room - len(video) - 2]) + bytes(room - len(video) - 2)
    path.write_bytes(data[:start] + video + void + data[start + room :])
    np.testing.assert_array_equal(frames_of(path)[0], stored[2:42, 4:56])


# Colour.


@pytest.mark.parametrize("matrix", LUMA)
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("backend", ["decord", "pyav"])
def test_tagged_colours(tmp_path, matrix, full, backend):
    tags = {"colorspace": matrix, "color_range": FULL if full else LIMITED}
    path = film(tmp_path / "a.mp4", to_yuv(scene(), matrix, full), tags=tags)
    assert_stripes(frames_of(path, backend)[0])


@pytest.mark.parametrize(("size", "matrix"), [((64, 48), 5), ((1280, 48), 1), ((64, 720), 1), ((64, 576), 5)])
def test_untagged_footage_is_read_by_its_size(tmp_path, size, matrix):
    path = film(tmp_path / "a.mp4", to_yuv(scene(*size), matrix, False), count=1)
    assert_stripes(frames_of(path)[0])
    if matrix == 1:  # decord takes it for BT.601
        with pytest.raises(InputError, match="decord"):
            frames_of(path, "decord")


@pytest.mark.parametrize("tag", [{"colorspace": 1}, {"color_range": FULL}])
def test_decoders_agree_on_half_a_tag(tmp_path, tag):
    planes = to_yuv(scene(), tag.get("colorspace", 5), "color_range" in tag)
    path = film(tmp_path / "a.mp4", planes, tags=tag)
    for backend in ("decord", "pyav"):
        assert_stripes(frames_of(path, backend)[0])


@pytest.mark.parametrize(("bits", "codec"), [(10, "libx265"), (12, "ffv1")])
def test_more_than_eight_bits(tmp_path, bits, codec):
    tags = {"colorspace": 9, "color_range": LIMITED}
    options = {"x265-params": "lossless=1:log-level=none"} if codec == "libx265" else {}
    planes = to_yuv(scene(), 9, False, bits)
    path = film(tmp_path / "a.mkv", planes, pix_fmt=f"yuv420p{bits}le", codec=codec, tags=tags, options=options)
    assert_stripes(frames_of(path)[0])


@pytest.mark.parametrize(("pix_fmt", "scale"), [("gray", 1), ("gray16le", 257)])
def test_grey_film_has_the_full_range(tmp_path, pix_fmt, scale):
    grey = scene()[..., 1].astype(int)
    path = film(tmp_path / "a.mkv", [grey * scale], pix_fmt=pix_fmt, codec="ffv1")
    np.testing.assert_allclose(frames_of(path)[0], np.dstack([grey] * 3), atol=1)


@pytest.mark.parametrize(("transfer", "white"), [(16, 0.5807), (18, 0.75)])
def test_hdr_is_tone_mapped(tmp_path, transfer, white):
    """BT.2408: reference white is 58 % of PQ and 75 % of HLG; skin and grey (HLG 38 %, PQ 38 %) keep their places."""
    signal = np.repeat(np.array([0, 0.38, white, 1.0]), 16)[None, :, None].repeat(48, 0).repeat(3, -1)
    tags = {"colorspace": 9, "color_range": LIMITED, "color_trc": transfer, "color_primaries": 9}
    planes = to_yuv(signal * 255, 9, False, 10)
    options = {"x265-params": "lossless=1:log-level=none"}
    path = film(tmp_path / "a.mp4", planes, pix_fmt="yuv420p10le", codec="libx265", tags=tags, options=options)
    shown = frames_of(path)[0][24, 8::16].astype(int)
    assert np.ptp(shown, axis=1).max() <= 2  # grey stays grey
    black, grey, reference, brightest = shown.mean(1)
    assert black <= 2
    assert 90 <= grey <= 125  # 26 cd/m2 of 203 (HLG 25)
    assert 205 <= reference <= 235
    assert brightest >= 253
    assert "tone-mapped" in probe(path).notes[0]
    kind = "pq" if transfer == 16 else "hlg"
    exact = 255 * tone_map(np.array([[0.38] * 3, [white] * 3]), kind)
    np.testing.assert_allclose(shown[1:3], exact, atol=2)  # the table of 33 steps is fine enough


def test_colours_without_a_way_back_are_refused(tmp_path):
    path = film(tmp_path / "a.mp4", to_yuv(scene(), 9, False), tags={"colorspace": 14, "color_range": LIMITED})
    with pytest.raises(InputError, match="ffmpeg -i"):
        probe(path)


def test_transparent_film_lies_on_grey(tmp_path):
    rgba = np.dstack([scene(), np.full((HEIGHT, WIDTH), 255, np.uint8)])
    rgba[:, :32, 3] = 0
    rgba[24:, 32:40, 3] = 128
    path = film(tmp_path / "a.mov", [rgba.reshape(HEIGHT, -1)], pix_fmt="rgba", codec="png", size=(WIDTH, HEIGHT))
    image = frames_of(path)[0]
    assert (image[:, :32] == GREY).all()
    np.testing.assert_array_equal(image[:, 40:], scene()[:, 40:])
    np.testing.assert_array_equal(image[30, 36], [128] * 3)
    assert probe(path).notes == ("transparent pixels laid over grey",)


def test_plain_footage_stays_with_decord():
    clip = Path(__file__).parents[1] / "data" / "one_by_one_5s.mp4"
    assert index_video(clip).plain
    assert probe(clip).notes == ()


# Interlace.


def fields(n: int) -> list[np.ndarray]:
    """A bright bar that moves by 4 px a field. The first field is the odd rows: libx264 marks it so here."""
    columns = np.arange(WIDTH)[None] - 6 - 8 * n - 4 * (np.arange(HEIGHT)[:, None] % 2 == 0)
    luma = np.where((columns >= 0) & (columns < 12), 230, 20)
    return [luma, *(np.full((HEIGHT // 2, WIDTH // 2), 128),) * 2]


def combing(image: np.ndarray) -> float:
    rows = image[..., 1].astype(int)
    return float(np.abs(2 * rows[1:-1] - rows[:-2] - rows[2:]).mean())


def test_interlaced_footage_is_deinterlaced(tmp_path):
    options = {"qp": "0", "bf": "0", "g": "40", "flags": "+ildct+ilme", "x264-params": "bff=1"}
    path = film(tmp_path / "a.mp4", lambda n: fields(n % 5), count=90, options=options)
    frames = frames_of(path)
    assert len(frames) == 90
    assert max(combing(f) for f in frames[1:]) < 2.5 < 20 < combing(np.dstack([fields(0)[0]] * 3))
    for n in (1, 7, 89):  # the bar of the first field, which is the frame's time
        left = np.nonzero(frames[n][24, :, 1] > 128)[0][0]
        assert left == 6 + 8 * (n % 5)
    for choice in ({"start": 83, "end": 86}, {"start": 3, "every": 40}):  # also after a jump
        np.testing.assert_array_equal(
            frames_of(path, **choice), frames[slice(*map(choice.get, ("start", "end", "every")))]
        )
    assert probe(path).notes == ("interlaced: deinterlaced (bwdif)",)


# Images.


def test_deep_and_transparent_images(tmp_path):
    grey = (scene().mean(-1) * 257).round().astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(grey).save(tmp_path / "grey.tif")
    for name in ("grey.png", "grey.tif"):
        np.testing.assert_allclose(read_image(tmp_path / name)[..., 0], scene().mean(-1), atol=1)
    rgba = np.dstack([scene(), np.full((HEIGHT, WIDTH), 255, np.uint8)])
    rgba[:, :32] = (255, 0, 255, 0)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert (image[:, :32] == GREY).all()
    np.testing.assert_array_equal(image[:, 32:], scene()[:, 32:])


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_colour_images_of_sixteen_bits(tmp_path, suffix):
    deep = scene().astype(np.uint16) * 257
    codec = av.CodecContext.create(suffix, "w")
    codec.width, codec.height, codec.time_base = WIDTH, HEIGHT, Fraction(1, 25)
    codec.pix_fmt = "rgb48be" if suffix == "png" else "rgb48le"
    frame = av.VideoFrame(WIDTH, HEIGHT, codec.pix_fmt)
    rows = deep.astype(">u2" if suffix == "png" else "<u2").reshape(HEIGHT, -1).view(np.uint8)
    padded = np.zeros((HEIGHT, frame.planes[0].line_size), np.uint8)
    padded[:, : rows.shape[1]] = rows
    frame.planes[0].update(padded.tobytes())
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(b"".join(bytes(p) for p in [*codec.encode(frame), *codec.encode()]))
    np.testing.assert_allclose(read_image(path), scene(), atol=1)


def test_plates_in_linear_light(tmp_path):
    oiio = pytest.importorskip("OpenImageIO")
    display = scene() / 255
    linear = np.where(display <= 0.04045, display / 12.92, ((display + 0.055) / 1.055) ** 2.4).astype(np.float32)

    def write(name, pixels, **attributes):
        spec = oiio.ImageSpec(pixels.shape[1], pixels.shape[0], 3, attributes.pop("kind", oiio.FLOAT))
        for key, value in attributes.items():
            setattr(spec, key, value) if key in ("full_x", "full_width", "x") else spec.attribute(
                key.replace("__", ":"), value
            )
        out = oiio.ImageOutput.create(str(tmp_path / name))
        assert out.open(str(tmp_path / name), spec), out.geterror()
        out.write_image(pixels)
        out.close()
        return tmp_path / name

    np.testing.assert_allclose(read_image(write("a.exr", linear)), scene(), atol=1)
    overscan = np.pad(linear, ((0, 0), (8, 8), (0, 0)), constant_values=1.0)
    shown = read_image(write("over.exr", overscan, x=-8, full_x=0, full_width=WIDTH))
    np.testing.assert_allclose(shown, scene(), atol=1)
    assert read_image(write("wide.exr", linear, PixelAspectRatio=2.0)).shape == (HEIGHT, 2 * WIDTH, 3)
    np.testing.assert_allclose(
        read_image(write("a.dpx", display.astype(np.float32), kind=oiio.UINT16)), scene(), atol=1
    )
    black = 10 ** (-590 / 300)
    film_log = ((685 + 300 * np.log10(linear * (1 - black) + black)) / 1023).astype(np.float32)
    path = write("log.dpx", film_log, kind=oiio.UINT16, dpx__Transfer="Logarithmic")
    np.testing.assert_allclose(read_image(path), scene(), atol=2)
    folder = tmp_path / "plates"
    folder.mkdir()
    for number in (1001, 1002):
        (folder / f"a.{number}.exr").write_bytes((tmp_path / "over.exr").read_bytes())
    info = probe(folder)
    assert (info.frame_indices.tolist(), info.width, info.height) == ([1001, 1002], WIDTH, HEIGHT)
    np.testing.assert_allclose(frames_of(folder)[1], scene(), atol=1)


def test_plates_without_the_package_are_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "OpenImageIO", None)
    (tmp_path / "a.1001.exr").write_bytes(b"v/1\x01" + bytes(60))
    with pytest.raises(InputError, match="hmrkit\\[plates\\]"):
        probe(tmp_path)


def test_rgb_needs_no_matrix():
    frame = av.VideoFrame(8, 8, "gbrp")
    assert colour_of(frame, None) == Colour("gbrp", "bt601", True, True)

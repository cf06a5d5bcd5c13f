"""A texture on people: what other programs' readers find at known places of the body, in each format."""

import hashlib
import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_scene import made_scene
from PIL import Image

from hmrkit.body import load_body
from hmrkit.body.texture import texture_coordinates
from hmrkit.errors import InputError, UsageError
from hmrkit.exporters import load_exporter
from hmrkit.exporters.character_arrays import cut_at_seams
from hmrkit.exporters.writing import export_into
from hmrkit.scene import ExportOptions, scene_name
from hmrkit.scene.build import build_scene, options_as_json
from hmrkit.scene.texture import read_texture
from hmrkit.weights import find_weights

OPTIONS = ExportOptions(camera=False, texture="skin")
# Places on the template (side, up, front), m.
PLACES = {
    "lower lip": (0, 0.610, 0.15),
    "forehead": (0, 0.715, 0.15),
    "palm": (0.73, 0.44, 0.0),
    "back of the hand": (0.73, 0.51, 0.0),
    "sole": (0.16, -0.91, 0.05),
    "instep": (0.16, -0.83, 0.05),
    "shorts": (0.1, -0.1, 0.15),
    "thigh": (0.12, -0.3, 0.15),
}


def nearest(place):
    vertices = load_body()().vertices[0].numpy()
    return int(np.linalg.norm(vertices - place, axis=1).argmin())


VERTICES = {name: nearest(place) for name, place in PLACES.items()}


@pytest.fixture(scope="module")
def scene():
    made, body = made_scene(3), load_body()
    uv = texture_coordinates(body)
    people = tuple(replace(c, texture_uv=lambda: uv, visible=np.ones(len(c), bool)) for c in made.characters)
    return replace(made, characters=people, texture=read_texture("skin", body, made.name))


def check(image, faces, uv):
    """That an image, sampled at corners' places in it (v upwards), shows a body: `faces` (F,3) and `uv` (F,3,2)."""
    pixels = np.asarray(image.convert("RGB"), float)
    size = len(pixels)
    red, light = {}, {}
    for name, vertex in VERTICES.items():
        at = uv.reshape(-1, 2)[np.flatnonzero(faces.ravel() == vertex)]
        column, row = (np.stack([at[:, 0], 1 - at[:, 1]]) * size).astype(int).clip(0, size - 1)
        colour = pixels[row, column].mean(0)
        red[name], light[name] = colour[0] / colour[1:].mean(), colour.mean()
    assert red["lower lip"] > 1.1 * red["forehead"]
    assert light["palm"] > 1.05 * light["back of the hand"]
    assert light["sole"] > 1.05 * light["instep"]
    assert red["shorts"] < 1.2 < 1.3 < red["thigh"]


def test_the_check_sees_a_flipped_image(scene):
    person, image = scene.characters[0], Image.open(io.BytesIO(scene.texture.content))
    check(image, person.faces, person.texture_uv())
    with pytest.raises(AssertionError):
        check(image.transpose(Image.Transpose.FLIP_TOP_BOTTOM), person.faces, person.texture_uv())
    with pytest.raises(AssertionError):
        check(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), person.faces, person.texture_uv())


def test_colours_agree_across_seams(scene):
    """Where two charts meet, both show the same: most corners of one vertex differ by a grey level or two."""
    person, pixels = scene.characters[0], np.asarray(Image.open(io.BytesIO(scene.texture.content)), float)
    rows, places, _ = cut_at_seams(person, person.texture_uv())
    column, row = (np.stack([places[:, 0], 1 - places[:, 1]], 0) * len(pixels)).astype(int)
    colours, count = pixels[row, column], len(person.rest_vertices)
    difference = np.abs(colours[count:] - colours[rows[count:]]).mean(1)
    assert len(difference) > 500
    assert np.median(difference) < 3
    assert np.quantile(difference, 0.95) < 12
    others = np.abs(colours[count:] - np.roll(colours, 997, 0)[rows[count:]]).mean(1)
    assert np.median(others) > 12


def test_glb(scene, tmp_path):
    pygltflib, trimesh = pytest.importorskip("pygltflib"), pytest.importorskip("trimesh")
    (path,) = load_exporter("glb").write(scene, tmp_path, OPTIONS)
    meshes = trimesh.load_scene(path, process=False).geometry.values()
    assert len(meshes) == len(scene.characters) > 1
    for person, mesh in zip(scene.characters, meshes, strict=True):
        rows = cut_at_seams(person, person.texture_uv())[0]
        check(mesh.visual.material.baseColorTexture, rows[mesh.faces], mesh.visual.uv[mesh.faces])
    file = pygltflib.GLTF2().load(str(path))
    (image,) = file.images
    view = file.bufferViews[image.bufferView]
    held = file.binary_blob()[view.byteOffset : view.byteOffset + view.byteLength]
    assert (held, image.mimeType) == (scene.texture.content, "image/jpeg")
    colours = [material.pbrMetallicRoughness.baseColorFactor for material in file.materials]
    assert colours == [[1, 1, 1, 1]] * len(scene.characters)


def test_obj(scene, tmp_path):
    folders = load_exporter("obj").write(scene, tmp_path, OPTIONS)
    for folder, person in zip(folders, scene.characters, strict=True):
        rows = [line.split() for line in next(iter(folder.glob("frame_*.obj"))).read_text().splitlines()]
        (library,) = [row[1] for row in rows if row[0] == "mtllib"]
        lines = dict(line.split(maxsplit=1) for line in (folder / library).read_text().splitlines())
        uv = np.array([row[1:] for row in rows if row[0] == "vt"], float)
        faces = np.array([[corner.split("/") for corner in row[1:]] for row in rows if row[0] == "f"], int) - 1
        assert lines["newmtl"] == f"{person.name}_skin"
        assert lines["Kd"] == "1 1 1"
        check(Image.open(folder / lines["map_Kd"]), faces[..., 0], uv[faces[..., 1]])
        assert len([path for path in folder.iterdir() if path.suffix != ".obj"]) == 2  # for all frames


def test_fbx(scene, tmp_path):
    pytest.importorskip("ufbx")
    path, image = load_exporter("fbx").write(scene, tmp_path, OPTIONS)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for file in (path, image):
        file.rename(moved / file.name)
    reader = Path(__file__).parent / "read_fbx_by_ufbx.py"
    subprocess.run([sys.executable, reader, moved / path.name, tmp_path / "read.npz", "33.4"], check=True)
    read = np.load(tmp_path / "read.npz")
    assert json.loads(str(read["facts"]))["warnings"] == 0
    for person in scene.characters:
        mesh = f"{person.name}_mesh"
        assert Path(str(read[f"{mesh}/texture"])) == moved / image.name
        check(Image.open(str(read[f"{mesh}/texture"])), person.faces, read[f"{mesh}/uv"].reshape(-1, 3, 2))
        np.testing.assert_array_equal(read[f"{mesh}/colour"], 1)


def test_usd(scene, tmp_path):
    pytest.importorskip("pxr")
    from pxr import Usd, UsdGeom, UsdShade

    path, exact, image = load_exporter("usd").write(scene, tmp_path, replace(OPTIONS, exact=True))
    for file in (path, exact):
        stage = Usd.Stage.Open(str(file))
        meshes = [prim for prim in stage.Traverse() if prim.IsA(UsdGeom.Mesh)]
        assert len(meshes) == len(scene.characters)
        for mesh in meshes:
            surface = UsdShade.MaterialBindingAPI(mesh).ComputeBoundMaterial()[0].ComputeSurfaceSource()[0]
            texture = UsdShade.Shader(surface.GetInput("diffuseColor").GetConnectedSources()[0][0].source.GetPrim())
            reader = UsdShade.Shader(texture.GetInput("st").GetConnectedSources()[0][0].source.GetPrim())
            assert [node.GetIdAttr().Get() for node in (surface, texture, reader)] == [
                "UsdPreviewSurface", "UsdUVTexture", "UsdPrimvarReader_float2",
            ]  # fmt: skip
            found = Path(texture.GetInput("file").Get().resolvedPath)
            assert found == image
            st = np.array(UsdGeom.PrimvarsAPI(mesh).GetPrimvar(reader.GetInput("varname").Get()).ComputeFlattened())
            faces = np.array(UsdGeom.Mesh(mesh).GetFaceVertexIndicesAttr().Get()).reshape(-1, 3)
            check(Image.open(found), faces, st.reshape(-1, 3, 2))


def test_people_in_files_of_their_own_share_one_image(scene, tmp_path):
    paths = load_exporter("fbx").write(scene, tmp_path, replace(OPTIONS, per_person=True))
    assert [path.name for path in paths] == [*(f"{person.name}.fbx" for person in scene.characters), scene.texture.name]


def png(path, size=(8, 8), mode="RGB"):
    Image.new(mode, size, (200,) * len(mode)).save(path)
    return str(path)


def test_a_texture_of_the_users_own(tmp_path):
    texture = read_texture(png(tmp_path / "my hero.png"), load_body(), "clip")
    content = (tmp_path / "my hero.png").read_bytes()
    assert (texture.content, texture.mime_type) == (content, "image/png")
    assert texture.name == f"clip_my_hero_{hashlib.sha256(content).hexdigest()[:6]}.png"
    named_wrongly = tmp_path / "photo.png"
    Image.new("RGB", (8, 8)).save(named_wrongly, format="JPEG")
    assert re.fullmatch("clip_photo_[0-9a-f]{6}.jpg", read_texture(str(named_wrongly), load_body(), "clip").name)
    others = [png(tmp_path / "b_hero.png"), png(tmp_path / "hero.png", (9, 9))]  # of two clips, a and a_b
    names = {read_texture(path, load_body(), clip).name for path, clip in zip(others, ("a", "a_b"), strict=True)}
    assert len(names) == 2


def test_a_cameras_jpeg_with_a_preview_is_a_jpeg(tmp_path):
    path, images = tmp_path / "camera.jpg", [Image.new("RGB", (size, size), "red") for size in (16, 8)]
    images[0].save(path, format="MPO", save_all=True, append_images=images[1:])
    assert Image.open(path).format == "MPO"
    texture = read_texture(str(path), load_body(), "clip")
    assert (texture.mime_type, texture.content) == ("image/jpeg", path.read_bytes())


@pytest.mark.parametrize(
    ("size", "found"), [((9000, 9000), "9000x9000"), ((16384, 16384), r"Image size \(268435456 pixels\)")]
)
def test_a_texture_of_too_many_pixels(size, found, tmp_path, recwarn):
    path = png(tmp_path / "huge.png", size, "1")
    with pytest.raises(InputError, match=f"PNG or JPEG file of at most 67 million pixels; found {found}; make it smal"):
        read_texture(path, load_body(), "clip")
    assert not recwarn.list


def test_a_texture_of_too_many_bytes(tmp_path, monkeypatch):
    (tmp_path / "huge.png").write_bytes(bytes(3 << 20))
    monkeypatch.setattr("hmrkit.untrusted.limits.TEXTURE_BYTES", 2 << 20)
    with pytest.raises(InputError, match="file of at most 2 MiB; found 3"):
        read_texture(str(tmp_path / "huge.png"), load_body(), "clip")


def test_what_is_no_texture_is_one_line(tmp_path):
    (tmp_path / "text.png").write_text("no image")
    Image.new("RGB", (8, 8)).save(tmp_path / "image.bmp")
    whole = find_weights("body/skin.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    Image.new("CMYK", (8, 8)).save(tmp_path / "print.jpg")
    for name in ("absent.png", f"{'long' * 99}.png", "text.png", "image.bmp", "cut.jpg", "print.jpg", "."):
        with pytest.raises(InputError, match="wanted skin, or a texture as a PNG or JPEG file") as error:
            read_texture(str(tmp_path / name), load_body(), "clip")
        assert "\n" not in str(error.value)
    body = load_body()
    body.family, body.topology_id = "smpl", "smpl-12345678"
    for choice in ("skin", png(tmp_path / "hero.png")):
        with pytest.raises(UsageError, match="wants a body with texture coordinates"):
            read_texture(choice, body, "clip")


def test_exports_list_their_texture_and_the_next_one_replaces_it(take, models, tmp_path):
    def export(*formats, texture=None):
        paths = export_into(take, out, formats, models, lambda *_: None, ExportOptions(texture=texture))
        return paths, json.loads((out / "manifest.json").read_text())["products"]

    out, clip = tmp_path / "out", scene_name(Path(take.video.path))
    paths, products = export("glb", "fbx", "obj", texture="skin")
    (image,) = [path for path in paths if path.suffix == ".jpg"]
    assert image.name in products[f"export-fbx-{clip}"]["files"]
    assert image.name not in products[f"export-glb-{clip}"]["files"]
    copies = [name for name in products[f"export-obj-{clip}"]["files"] if name.endswith(image.name)]
    assert len(copies) == len([path for path in paths if path.name.endswith("_obj")]) > 0
    own = png(tmp_path / "hero.png")
    paths, _ = export("fbx", "obj", texture=own)
    assert not image.exists()
    assert sorted(path.suffix for path in out.rglob("*") if path.suffix in (".png", ".jpg")) == [".png"] * (
        1 + len(copies)
    )
    inside = next(path for path in paths if path.suffix == ".png")
    with pytest.raises(UsageError, match="keep it elsewhere"):
        export("fbx", texture=str(inside))
    export("fbx", "obj")
    assert not [path for path in out.rglob("*") if path.suffix in (".png", ".jpg", ".mtl")]
    own = png(out / "hero.png")
    paths, _ = export("fbx", texture=own)  # not made by an export
    assert Path(own).exists()
    written = png(out / "mine.png").replace("mine.png", paths[0].name)
    (out / "mine.png").rename(written)
    (out / "manifest.json").unlink()
    with pytest.raises(UsageError, match="keep it elsewhere"):
        export("fbx", texture=written)
    assert Image.open(written).format == "PNG"
    with pytest.raises(UsageError, match="--texture is for obj,fbx,glb,usd, got --format abc,ply"):
        export("abc", "ply", texture="skin")


def test_shots_share_a_texture_that_is_read_once_before_all_else(take, models, tmp_path, monkeypatch):
    cut, names, done = replace(take, video=replace(take.video, cuts=(16, 19))), [], lambda *_: None
    monkeypatch.setattr(
        "hmrkit.exporters.writing.read_texture", lambda *args: names.append(args[2]) or read_texture(*args)
    )
    monkeypatch.setattr("hmrkit.scene.build.read_texture", None)
    made = export_into(
        cut, tmp_path / "out", ["fbx", "obj"], models, done, ExportOptions(texture="skin", per_shot=True)
    )
    (image,) = [path for path in made if path.suffix == ".jpg"]
    assert (image.name, names) == (f"{names[0]}_skin.jpg", ["some_clip"])
    assert [path.name for path in made if path.suffix == ".fbx"] == ["some_clip_shot_01.fbx", "some_clip_shot_02.fbx"]
    assert len(list((tmp_path / "out").rglob("some_clip_skin.jpg"))) == 3  # beside the files, in two folders of obj
    monkeypatch.undo()
    monkeypatch.setattr("hmrkit.scene.build.make_clock", None)
    with pytest.raises(InputError, match="found No such file"):
        build_scene(take, models, ExportOptions(texture="absent.png"))


def test_exported_files_have_the_names_of_files_alone(take, models, tmp_path):
    options = ExportOptions(texture=png(tmp_path / "hero.png"))
    scene = build_scene(take, models, options)
    assert scene.metadata["options"]["texture"] == "hero.png"
    assert options_as_json(ExportOptions(rig=str(tmp_path / "hero.json")))["rig"] == "hero.json"
    export_into(take, tmp_path / "out", ["glb"], models, lambda *_: None, options)
    for path in (tmp_path / "out").iterdir():
        assert str(tmp_path).encode() not in path.read_bytes()

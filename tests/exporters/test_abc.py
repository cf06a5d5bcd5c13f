"""Alembic files: read by a few lines written here, and by Alembic's own library where it is installed."""

import struct
from dataclasses import replace

import numpy as np
import pytest
from made_scene import made_scene

from hmrkit.exporters.abc import AbcExporter
from hmrkit.scene import ExportOptions


class Ogawa:
    """Groups and blobs of a file."""

    def __init__(self, path):
        self.content = path.read_bytes()
        assert self.content[:8] == b"Ogawa\xff\x00\x01"
        self.root = self.children(struct.unpack("<Q", self.content[8:16])[0])

    def children(self, position):
        (count,) = struct.unpack_from("<Q", self.content, position)
        return struct.unpack_from(f"<{count}Q", self.content, position + 8)

    def blob(self, child):
        position = child & ~(1 << 63)
        (size,) = struct.unpack_from("<Q", self.content, position)
        return self.content[position + 8 : position + 8 + size]


def test_points_are_in_the_file_as_they_are(tmp_path):
    scene = made_scene(24)
    (path,) = AbcExporter().write(scene, tmp_path, ExportOptions())
    file = Ogawa(path)
    assert len(file.root) == 6
    top = file.children(file.root[2])
    for number, character in enumerate(scene.characters):
        person = file.children(top[1 + number])
        geometry = file.children(file.children(file.children(person[1])[0])[0])
        points = file.children(geometry[1])[::2]  # after the bounds; every second blob is the (empty) dimensions
        wanted = np.concatenate([character.vertices(rows) for rows in character.stretches()])
        before = int(character.frames[0] > scene.frame_range[0])
        assert len(points) == len(character) + 2 * before
        for sample, vertices, seen in zip(points[before:], wanted, character.visible, strict=False):
            if seen:
                assert file.blob(sample)[16:] == vertices.tobytes()
        rotated = np.frombuffer(file.blob(file.children(geometry[2])[0])[16:], np.int32).reshape(-1, 3)
        assert np.array_equal(rotated[:, ::-1], character.faces)
    facts = dict(item.split("=", 1) for item in file.blob(file.root[3]).decode().split(";"))
    assert (facts["fps"], facts["unit"], facts["up_axis"]) == ("30000/1001", "m", "y")
    assert float(facts["FramesPerTimeUnit"]) == pytest.approx(30000 / 1001)


def test_one_file_a_person_and_none_for_nobody(tmp_path):
    scene = made_scene(6)
    paths = AbcExporter().write(scene, tmp_path, ExportOptions(per_person=True, camera=False))
    assert [path.name for path in paths] == ["person_01.abc", "person_07.abc"]
    assert all(b"AbcGeom_Camera" not in path.read_bytes() for path in paths)
    assert AbcExporter().write(replace(scene, characters=()), tmp_path, ExportOptions()) == []


def test_a_cut_off_file_says_so(tmp_path):
    """Readers look at the sixth byte; a writer that failed leaves no file at all."""
    scene = made_scene(6)
    broken = replace(scene.characters[0], exact_vertices=lambda rows: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        AbcExporter().write(replace(scene, characters=(broken,)), tmp_path, ExportOptions())
    assert list(tmp_path.iterdir()) == []


def test_many_samples_and_long_names(tmp_path):
    """Counts and names beyond 255 and 65535 take more bytes in the headers."""
    from hmrkit.exporters.ogawa import Node, OgawaFile, Property, Sampling

    library = pytest.importorskip("alembic3d")
    for count in (255, 256, 65536):
        path = tmp_path / f"{count}.abc"
        with open(path, "wb") as raw:
            file = OgawaFile(raw)
            samples = [file.sample(np.array([value], "f")) for value in range(count)]
            name = "x" * min(count, 300)
            top = Node(
                "ABC", "", [Property(name, "f", samples=samples, sampling=1, metadata="k=" + "v" * (count % 300))]
            )
            file.finish(top, "", [Sampling(count, 0.5, 1.0)])
        found = library.Abc.IFloatProperty(library.Abc.IArchive(str(path)).getTop().getProperties(), name)
        assert len(found.samples) == count
        assert found.samples[count - 1] == count - 1


@pytest.mark.parametrize(("up", "unit"), [("y", "m"), ("z", "cm")])
def test_alembics_own_library_reads_it(tmp_path, up, unit):
    library = pytest.importorskip("alembic3d")
    abc, geometry = library.Abc, library.AbcGeom
    scene = made_scene(24, up=up, unit=unit)
    (path,) = AbcExporter().write(scene, tmp_path, ExportOptions())
    archive = abc.IArchive(str(path))
    top = archive.getTop()
    start, end = (frame * 1001 / 30000 for frame in scene.frame_range)
    assert abc.GetArchiveStartAndEndTime(archive) == pytest.approx((start, end))
    for number, character in enumerate(scene.characters):
        person = top.children[number]
        assert person.getName() == character.name
        schema = geometry.IPolyMesh(person, f"{character.name}_mesh").getSchema()
        late = int(character.frames[0] > scene.frame_range[0])
        assert schema.getNumSamples() == len(character) + 2 * late
        wanted = np.concatenate([character.vertices(rows) for rows in character.stretches()])
        shown = geometry.GetVisibilityProperty(person)
        for row, frame in enumerate(character.frames.tolist()):
            moment = abc.ISampleSelector(frame * 1001 / 30000)
            sample = schema.getValue(moment)
            assert schema.getTimeSampling().getSampleTime(row + late) == pytest.approx(frame * 1001 / 30000)
            expected = wanted[row] if character.visible[row] else character.rest_vertices * np.float32(1e-3)
            assert np.array_equal(np.array(sample.getPositions()), expected)
            assert np.array(sample.getSelfBounds().min()) == pytest.approx(expected.min(0))
            assert bool(shown.getValue(moment)) == character.visible[row]
        assert not shown.getValue(abc.ISampleSelector(10.0)) or character.frames[0] == scene.frame_range[0]
    lens = geometry.ICamera(top.children[2], "camera_lens").getSchema().getValue()
    assert lens.getFocalLength() == pytest.approx(scene.camera.focal_mm)
    assert lens.getHorizontalAperture() == pytest.approx(3.6)
    assert lens.getVerticalAperture() == pytest.approx(2.025)
    assert lens.getHorizontalFilmOffset() == pytest.approx(-10 / 1280 * 3.6)
    matrix = geometry.IXform(top, "camera").getSchema().getValue().getMatrix()
    rows = np.array([[matrix[i][j] for j in range(4)] for i in range(4)])
    assert np.allclose(rows.T, scene.camera.scene_from_camera)

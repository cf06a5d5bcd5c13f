"""Meshes in the image: bodies whose keypoints, silhouettes and parts ARE the annotation score full marks."""

import json

import numpy as np
import pytest
from made_datasets import rotations
from PIL import Image, ImageDraw
from scipy.io import savemat
from typer.testing import CliRunner

from hmrkit.body import load_body
from hmrkit.camera import assume_camera, project
from hmrkit.cli.app import app
from hmrkit.datasets.crowdpose import CROWDPOSE_14
from hmrkit.datasets.mpii_invisible import MPII_16
from hmrkit.evaluation.bodies import Bodies
from hmrkit.evaluation.image import LSP_PARTS, part_of_faces
from hmrkit.skeletons import COCO_17, LSP_14

WIDTH, HEIGHT = 160, 200
COUNT = 3


@pytest.fixture(scope="module")
def people():
    """Three poses before the camera that is assumed of images of this size, and their meshes."""
    rng = np.random.default_rng(2)
    pose = rng.normal(0, 0.2, (COUNT, 24, 3))
    pose[:, 0] = [np.pi, 0, 0]
    local = rotations(pose).astype(np.float32)
    transl = np.array([[0.05 * k, 0.1, 3.2 + 0.3 * k] for k in range(COUNT)], np.float32)
    body = load_body()
    mesh = body(local[:, 0], local[:, 1:], transl=transl)
    return local, transl, mesh.vertices.numpy(), mesh.joints.numpy()


@pytest.fixture(scope="module")
def camera():
    return assume_camera(WIDTH, HEIGHT)


def pixels(people, camera, names):
    _, transl, vertices, joints = people
    named = tuple("neck" if n == "upper_neck" else n for n in names)
    return project(camera, Bodies(load_body()).points(load_body(), vertices, joints, named, "named", transl))


def predictions(path, people, rows, shift=0.0):
    """`rows`: (sequence, person) -> which of the bodies, in the order of the person's rows."""
    local, transl, _, _ = people
    arrays = {}
    for (sequence, person), chosen in rows.items():
        key = f"{sequence}/{person}"
        arrays |= {f"{key}/global_orient": local[chosen, 0], f"{key}/body_pose": local[chosen, 1:]}
        arrays |= {f"{key}/transl": transl[chosen] + np.array([shift, 0, 0], np.float32)}
    np.savez(path, **arrays)
    return path


def run(dataset, root, results, out, *more):
    arguments = [
        *("eval", "--dataset", dataset, "--data", str(root), "--predictions", str(results), "--out", str(out)),
        *("--json", "--no-sheet", *more),
    ]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    (row,) = json.loads(result.stdout)["methods"]
    assert row["missed"] == 0
    return {name: figure["mean"] for name, figure in row["figures"].items()}, row


def coco(root, people, camera, skeleton, split, crowding=None):
    points = pixels(people, camera, skeleton.joints)
    images, annotations = [], []
    for k in range(COUNT):
        name = f"{k + 1:012d}.jpg"
        images.append({"id": k + 1, "file_name": name, "width": WIDTH, "height": HEIGHT})
        if crowding:
            images[-1]["crowdIndex"] = crowding[k]
        low, high = points[k].min(0), points[k].max(0)
        flat = np.concatenate([points[k], np.full((len(points[k]), 1), 2.0)], 1).ravel().tolist()
        annotations.append(
            {
                "id": k + 1, "image_id": k + 1, "category_id": 1, "iscrowd": 0, "keypoints": flat,
                "num_keypoints": len(points[k]), "area": float((high - low).prod() / 2),
                "bbox": [*low.tolist(), *(high - low).tolist()],
            }
        )  # fmt: skip
        (root / "images").mkdir(parents=True, exist_ok=True)
        (root / split).mkdir(parents=True, exist_ok=True)
        for folder in ("images", split):
            Image.new("RGB", (WIDTH, HEIGHT)).save(root / folder / name)
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}


def sequence_names(dataset, root, split=""):
    from hmrkit.datasets import DatasetOptions, load_dataset

    return list(load_dataset(dataset, root, DatasetOptions(split=split)).sequences())


def test_coco(tmp_path, people, camera):
    pytest.importorskip("pycocotools")
    content = coco(tmp_path, people, camera, COCO_17, "val2017")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "person_keypoints_val2017.json").write_text(json.dumps(content))
    (sequence,) = sequence_names("coco", tmp_path)
    rows = {(sequence.name, "0"): [0, 1, 2]}
    exact, _ = run("coco", tmp_path, predictions(tmp_path / "p.npz", people, rows), tmp_path / "a")
    assert exact["AP"] == pytest.approx(100)
    assert exact["oks_percent"] == pytest.approx(100)
    aside, _ = run("coco", tmp_path, predictions(tmp_path / "q.npz", people, rows, 0.05), tmp_path / "b")
    assert 0 < aside["AP"] < 100
    assert aside["oks_percent"] < 97


def test_crowdpose(tmp_path, people, camera):
    pytest.importorskip("pycocotools")
    content = coco(tmp_path, people, camera, CROWDPOSE_14, "images", crowding=[0.05, 0.5, 0.95])
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "crowdpose_test.json").write_text(json.dumps(content))
    rows = {(s.name, t.person): list(t.facts["image_id"] - 1) for s in sequence_names("crowdpose", tmp_path)
            for t in s.people}  # fmt: skip
    exact, _ = run("crowdpose", tmp_path, predictions(tmp_path / "p.npz", people, rows), tmp_path / "a")
    assert [exact[f"AP_{level}"] for level in ("easy", "medium", "hard")] == pytest.approx([100] * 3)
    # The person in the crowded image alone is somewhere else.
    arrays = dict(np.load(tmp_path / "p.npz"))
    for key in arrays:
        if key.endswith("transl"):
            arrays[key] = np.where(arrays[key][:, 2:] > 3.7, arrays[key] + [2, 0, 0], arrays[key])
    np.savez(tmp_path / "q.npz", **arrays)
    wrong, _ = run("crowdpose", tmp_path, tmp_path / "q.npz", tmp_path / "b")
    assert [wrong[f"AP_{level}"] for level in ("easy", "medium", "hard")] == pytest.approx([100, 100, 0])


def test_hidden_joints_alone_are_measured(tmp_path, people, camera):
    """One body; its right wrist and left ankle are hidden. Moved by 10 px, all of which is less than half a head."""
    points = pixels(people, camera, MPII_16.joints)[0]
    hidden = {MPII_16.index["right_wrist"], MPII_16.index["left_ankle"]}
    entry = {
        "dataset": "MPI", "isValidation": 1.0, "img_paths": "a.jpg", "scale_provided": 1.0,
        "joint_self": [[float(x), float(y), 0.0 if k in hidden else 1.0] for k, (x, y) in enumerate(points)],
    }  # fmt: skip
    (tmp_path / "mpii_annotations.json").write_text(json.dumps([entry]))
    (tmp_path / "images").mkdir()
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "images" / "a.jpg")
    (sequence,) = sequence_names("mpii-invisible", tmp_path)
    rows = {(sequence.name, sequence.people[0].person): [0]}
    exact, _ = run("mpii-invisible", tmp_path, predictions(tmp_path / "p.npz", people, rows), tmp_path / "a")
    assert exact["hidden_2d_px"] == pytest.approx(0, abs=0.01)
    aside, _ = run("mpii-invisible", tmp_path, predictions(tmp_path / "q.npz", people, rows, 0.1), tmp_path / "b")
    depths = people[3][0, [21, 7], 2]  # right wrist, left ankle
    assert aside["hidden_2d_px"] == pytest.approx((0.1 / depths * camera.focal_px[0]).mean(), rel=0.02)


def test_silhouettes_and_parts(tmp_path, people, camera):
    """Labels are painted face by face, far ones first, in an order of numbers that is the dataset's own."""
    vertices = people[2]
    faces, part = load_body().faces, part_of_faces(load_body())
    numbers = np.array([0, 4, 1, 6, 5, 3, 2])
    joints = np.zeros((3, 14, 2000))
    joints[:2, :, 1000 : 1000 + COUNT] = pixels(people, camera, LSP_14.joints).transpose(2, 1, 0)
    (tmp_path / "images").mkdir()
    (tmp_path / "data" / "lsp").mkdir(parents=True)
    savemat(tmp_path / "joints.mat", {"joints": joints})
    for k in range(COUNT):
        name = f"im{1001 + k}"
        labels = Image.new("L", (WIDTH, HEIGHT))
        draw = ImageDraw.Draw(labels)
        places = project(camera, vertices[k])
        for face in np.argsort(-vertices[k][faces][..., 2].mean(1)):
            corners = [tuple(p - 0.5) for p in places[faces[face]]]
            draw.polygon(corners, fill=int(numbers[part[face]]))
        labels.save(tmp_path / "data" / "lsp" / f"{name}_part_segmentation.png")
        mask = Image.fromarray(((np.array(labels) > 0) * 255).astype(np.uint8))
        mask.save(tmp_path / "data" / "lsp" / f"{name}_segmentation.png")
    for number in range(1001, 1251):  # a sequence's images
        Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "images" / f"im{number}.jpg")
    (first, *_) = sequence_names("lsp", tmp_path)
    arrays = dict(np.load(predictions(tmp_path / "p.npz", people, {(first.name, "0"): [0, 1, 2]})))
    arrays[f"{first.name}/0/frame_indices"] = np.arange(COUNT)
    np.savez(tmp_path / "p.npz", **arrays)
    figures, row = run("lsp", tmp_path, tmp_path / "p.npz", tmp_path / "a", "--limit", str(COUNT))
    # PIL paints every pixel that an edge touches, the rasteriser those whose middle is inside.
    assert figures["silhouette_accuracy_percent"] > 98
    assert figures["silhouette_f1"] > 0.95
    assert figures["part_f1"] > 0.85
    assert row["notes"] == []
    assert len(LSP_PARTS) == 6

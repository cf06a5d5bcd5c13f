"""2D keypoints, average precision, masks and surface correspondence."""

import copy

import numpy as np
import pytest

from hmrkit import metrics
from hmrkit.errors import InputError

RNG = np.random.default_rng(3)


def test_pixels_and_shares_of_a_reference_length():
    truth = RNG.uniform(0, 500, (6, 16, 2))
    predicted = truth + np.array([3.0, 4.0])
    heads = np.array([[0, 0, 30, 40.0]] * 6)  # diagonal 50
    assert metrics.head_sizes(heads).tolist() == [30.0] * 6
    assert metrics.error_px(predicted, truth) == pytest.approx(5)
    assert metrics.error_px_per_frame(predicted, truth).tolist() == pytest.approx([5] * 6)
    assert metrics.pck_2d(predicted, truth, metrics.head_sizes(heads), threshold=5 / 30 + 1e-9) == 1
    assert metrics.pck_2d(predicted, truth, metrics.head_sizes(heads), threshold=5 / 30 - 1e-9) == 0


def test_only_chosen_and_known_keypoints_count():
    truth = np.concatenate([RNG.uniform(0, 500, (6, 16, 2)), np.ones((6, 16, 1))], -1)
    predicted = truth[..., :2] + 1.0
    invisible = RNG.random((6, 16)) < 0.3
    predicted[invisible] += 100
    assert metrics.error_px(predicted, truth, select=~invisible) == pytest.approx(2**0.5)
    assert metrics.error_px(predicted, truth, select=invisible) == pytest.approx(101 * 2**0.5)
    size = np.full(6, 10.0)
    assert metrics.pck_2d(predicted, truth, size) == pytest.approx(1 - invisible.mean())
    truth[..., 2] = ~invisible
    assert metrics.pck_2d(predicted, truth, size) == 1
    predicted[0, ~invisible[0]] = np.nan  # not predicted: a miss
    assert metrics.pck_2d(predicted, truth, size) == pytest.approx((~invisible[1:]).sum() / (~invisible).sum())
    assert np.isnan(metrics.pck_2d(predicted, truth, size, select=invisible))
    with pytest.raises(ValueError, match="one shape"):
        metrics.error_px(predicted[:, :3], truth)


def people(count, sigmas, per_image=3):
    """COCO annotations of `count` people with as many keypoints as `sigmas`, and keypoints (N,K,3)."""
    keypoints = np.concatenate(
        [RNG.uniform(0, 300, (count, len(sigmas), 2)), np.full((count, len(sigmas), 1), 2.0)], -1
    )
    keypoints[:, :, 2][RNG.random((count, len(sigmas))) < 0.2] = 0
    low, high = keypoints[..., :2].min(1), keypoints[..., :2].max(1)
    images = -(-count // per_image)
    truth = {
        "images": [{"id": i + 1, "crowdIndex": float((i % 10) / 10)} for i in range(images)],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [
            {
                "id": n + 1,
                "image_id": n // per_image + 1,
                "category_id": 1,
                "iscrowd": 0,
                "keypoints": k.ravel().tolist(),
                "num_keypoints": int((k[:, 2] > 0).sum()),
                "bbox": [*a.tolist(), *(b - a).tolist()],
                "area": float(np.prod(b - a) * 0.6),
            }
            for n, (k, a, b) in enumerate(zip(keypoints, low, high, strict=True))
        ],
    }
    return truth, keypoints


def result_of(truth, keypoints, scores):
    return [
        {"image_id": a["image_id"], "category_id": 1, "keypoints": k.ravel().tolist(), "score": float(s)}
        for a, k, s in zip(truth["annotations"], keypoints, scores, strict=True)
    ]


def plain_ap(similarity, scores, people_count):
    """AP over OKS 0.5 ... 0.95 at 101 recalls where each result can only match its own person."""
    order = np.argsort(-scores, kind="stable")
    precisions = []
    for threshold in np.linspace(0.5, 0.95, 10):
        hits = np.cumsum(similarity[order] >= threshold)
        recall, precision = hits / people_count, hits / np.arange(1, len(hits) + 1)
        for target in np.linspace(0, 1, 101):
            reached = recall >= target
            precisions.append(precision[reached].max() if reached.any() else 0.0)
    return np.mean(precisions)


def test_coco_ap_equals_a_plain_computation():
    pytest.importorskip("pycocotools")
    truth, keypoints = people(60, metrics.COCO_SIGMAS, per_image=1)
    noise = RNG.normal(size=keypoints.shape) * RNG.gamma(2, 8, (60, 1, 1))
    predicted = keypoints + noise * [1, 1, 0]
    scores = RNG.random(60)
    figures = metrics.coco_keypoint_ap(truth, result_of(truth, predicted, scores))
    areas = np.array([a["area"] for a in truth["annotations"]])
    similarity = metrics.oks(predicted[..., :2], keypoints, areas)
    assert 0.1 < figures["AP"] < 0.9
    assert figures["AP"] == pytest.approx(plain_ap(similarity, scores, 60), abs=1e-9)
    assert figures["AR50"] == pytest.approx(np.mean(similarity >= 0.5))
    assert list(figures) == ["AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl"]


def test_perfect_missing_and_stray_results():
    pytest.importorskip("pycocotools")
    truth, keypoints = people(12, metrics.COCO_SIGMAS)
    results = result_of(truth, keypoints, np.ones(12))
    before = copy.deepcopy((truth, results))
    figures = metrics.coco_keypoint_ap(truth, results)
    assert (truth, results) == before
    assert figures["AP"] == figures["AR"] == pytest.approx(1)
    assert np.isnan(figures["APm"])  # everybody is large
    assert metrics.coco_keypoint_ap(truth, results[:6])["AR"] == pytest.approx(0.5)
    assert metrics.coco_keypoint_ap(truth, [])["AP"] == 0
    with pytest.raises(InputError, match="99"):
        metrics.coco_keypoint_ap(truth, [{**results[0], "image_id": 99}])


def test_crowdpose_ap_by_crowd_index(tmp_path):
    pytest.importorskip("pycocotools")
    truth, keypoints = people(60, metrics.CROWDPOSE_SIGMAS, per_image=1)
    crowd = np.array([image["crowdIndex"] for image in truth["images"]])
    scores = RNG.random(60)
    noise = np.where(crowd < 0.2, 3, np.where(crowd < 0.8, 15, 60))[:, None, None] * RNG.normal(size=keypoints.shape)
    predicted = keypoints + noise * [1, 1, 0]
    figures = metrics.crowdpose_ap(truth, result_of(truth, predicted, scores))
    areas = np.array([a["bbox"][2] * a["bbox"][3] * 0.53 for a in truth["annotations"]])
    similarity = metrics.oks(predicted[..., :2], keypoints, areas, metrics.CROWDPOSE_SIGMAS)
    assert figures["AP"] == pytest.approx(plain_ap(similarity, scores, 60), abs=1e-9)
    for level, part in (("easy", crowd < 0.2), ("medium", (crowd >= 0.2) & (crowd < 0.8)), ("hard", crowd >= 0.8)):
        expected = plain_ap(similarity[part], scores[part], part.sum())
        assert figures[f"AP_{level}"] == pytest.approx(expected, abs=1e-9)
    assert figures["AP_easy"] > figures["AP_medium"] > figures["AP_hard"]
    paper = metrics.crowdpose_ap(truth, result_of(truth, predicted, scores), bounds=(0.0, 0.8))
    assert np.isnan(paper["AP_easy"])


def test_object_keypoint_similarity_of_known_distances():
    truth = np.array([[[10.0, 10, 2], [50, 50, 1], [0, 0, 0]]])
    sigmas = np.array([0.1, 0.05, 0.1])
    area = 400.0
    moved = truth[..., :2] + np.array([[[2 * 0.1 * 20, 0], [0, 0], [99, 99]]])  # first: one sigma of 2 sigma sqrt(area)
    assert metrics.oks(moved, truth, np.array([area]), sigmas)[0] == pytest.approx((np.exp(-0.5) + 1) / 2)
    moved[0, 1] = np.nan
    assert metrics.oks(moved, truth, np.array([area]), sigmas)[0] == pytest.approx(np.exp(-0.5) / 2)


def test_masks_pooled_over_images_as_by_a_plain_loop():
    hits, wrong, missed, right, pixels = np.zeros(7), np.zeros(7), np.zeros(7), 0, 0
    counts = []
    for _ in range(4):
        truth, predicted = RNG.integers(0, 7, (2, 20, 30))
        predicted = np.where(RNG.random((20, 30)) < 0.6, truth, predicted)
        truth[RNG.random((20, 30)) < 0.1] = 255
        counts.append(metrics.part_counts(predicted, truth))
        for c in range(7):
            is_c, predicted_c = truth == c, (predicted == c) & (truth != 255)
            hits[c] += (is_c & predicted_c).sum()
            wrong[c] += (~is_c & predicted_c).sum()
            missed[c] += (is_c & ~predicted_c).sum()
        right += (np.where(truth == 255, 0, truth) == predicted).sum()
        pixels += truth.size
    total = sum(counts[1:], counts[0])
    assert total.accuracy == pytest.approx(right / pixels)
    np.testing.assert_allclose(total.f1_per_class, 2 * hits / (2 * hits + wrong + missed))
    assert total.f1 == pytest.approx(np.mean(2 * hits / (2 * hits + wrong + missed)))


def test_silhouettes():
    truth = np.zeros((10, 10))
    truth[:, :5] = 255
    predicted = np.zeros((10, 10))
    predicted[:, :4] = 1
    counts = metrics.silhouette_counts(predicted, truth)
    assert counts.accuracy == pytest.approx(0.9)
    assert counts.f1 == pytest.approx((2 * 40 / (80 + 10) + 2 * 50 / (100 + 10)) / 2)
    assert metrics.silhouette_counts(truth, truth).f1 == 1
    assert metrics.silhouette_counts(truth * 0, truth * 0).f1 == 1  # no person anywhere: only background counts
    with pytest.raises(ValueError, match="one shape"):
        metrics.part_counts(truth[:5].astype(int), truth.astype(int))
    with pytest.raises(ValueError, match="0 to 6"):
        metrics.part_counts(np.full((2, 2), 7), np.zeros((2, 2), int))


def test_surface_auc_is_the_area_under_the_share_of_correct_points():
    distances = RNG.gamma(1.5, 0.05, 1000)
    distances[:100] = np.inf
    thresholds = np.linspace(0, 0.1, 20001)
    share = np.array([np.mean(distances <= t) for t in thresholds])
    area = ((share[1:] + share[:-1]) / 2).mean()
    assert metrics.surface_auc(distances) == pytest.approx(area, abs=1e-4)
    truth = RNG.normal(size=(50, 3))
    assert metrics.surface_auc_of_points(truth, truth) == 1
    assert metrics.surface_auc_of_points(truth + np.array([0, 0, 0.03]), truth) == pytest.approx(0.7)
    half = truth.copy()
    half[:25] = np.nan
    assert metrics.surface_auc_of_points(half, truth) == 0.5
    assert metrics.surface_auc_of_points(truth, half) == 1

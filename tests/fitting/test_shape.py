"""Shape from silhouettes and bone lengths: masks drawn from people of known shape."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from synthetic_person import BODY, CAMERA, make_person

from hmrkit.body.files import GENDERS
from hmrkit.body.landmarks import body_landmarks, local_from_world
from hmrkit.body.posing import body_for, free_body
from hmrkit.camera import crop_cameras, project
from hmrkit.crops import Region
from hmrkit.errors import UsageError
from hmrkit.fitting.bone_lengths import BONES, SHRINKAGE, BoneLengths, fit_shape
from hmrkit.fitting.gender import fit_gender, gender_probabilities
from hmrkit.fitting.masks import SIDE, PersonMasks, hidden_share, known_pixels, spread_rows
from hmrkit.fitting.observations import FitOptions, clean_track
from hmrkit.fitting.shape import ShapeOptions, fit_silhouettes, mask_overlap, with_betas
from hmrkit.options import Options
from hmrkit.rendering.rasteriser import rasterise
from hmrkit.skeletons import BLAZEPOSE_33
from hmrkit.types import BodyParams, Take, Track, VideoInfo

HEAVY = np.array([0.3, 2.0, 0.5, -0.5, 0, 0, 0, 0, 0, 0], np.float32)
ROWS = np.array([0, 15, 30, 45])


def params_of(person, betas=None):
    local = local_from_world(person.world).numpy()
    rest = BODY.joints_only(betas=torch.from_numpy(person.betas)).joints[0, 0].numpy()
    transl = person.joints[:, 0] - rest
    shape = person.betas if betas is None else betas
    return BodyParams(local[:, 0], local[:, 1:], shape, transl.astype(np.float32), "neutral", BODY.model_id)


def masks_of(params, wider=0):
    """What a perfect network would see of those bodies; clothes reach `wider` px beyond them."""
    part = [torch.from_numpy(x[ROWS]) for x in (params.global_orient, params.body_pose, params.transl_c)]
    mesh = body_for(params, BODY)(part[0], part[1], torch.from_numpy(params.betas), part[2])
    pixels = project(CAMERA, mesh.joints.numpy())
    size = 1.4 * np.ptp(pixels[..., 1], axis=1).astype(np.float64)
    cameras = crop_cameras(CAMERA, Region(pixels.mean(1), size, np.zeros(len(ROWS))), SIDE)
    rotation, focal = (torch.from_numpy(x.astype(np.float32)) for x in (cameras.camera_from_crop, cameras.focal_px))
    vertices = mesh.vertices @ rotation
    faces, center = torch.from_numpy(BODY.faces), torch.full((2,), SIDE / 2)
    drawn = rasterise(vertices, faces, focal[:, None].expand(-1, 2), center, (SIDE, SIDE)).face_index >= 0
    if wider:
        drawn = torch.nn.functional.max_pool2d(drawn.float()[:, None], 2 * wider + 1, 1, wider)[:, 0] > 0
    return PersonMasks(ROWS, drawn, torch.ones_like(drawn), rotation, focal)


def shape_error_mm(a, b):
    one, two = (
        BODY(betas=torch.from_numpy(x)).vertices - BODY(betas=torch.from_numpy(x)).joints[:, :1] for x in (a, b)
    )
    return 1000 * float((one - two).norm(dim=-1).mean())


@pytest.fixture(scope="module")
def heavy():
    person = make_person(0, betas=HEAVY)
    return person, masks_of(params_of(person))


def test_a_perfect_mask_covers_its_own_mesh(heavy):
    person, masks = heavy
    assert mask_overlap(params_of(person), masks, BODY).min() > 0.99


def test_silhouettes_make_a_mean_body_heavy_and_the_overlap_rise(heavy):
    person, masks = heavy
    mean = with_betas(params_of(person), np.zeros(10, np.float32), CAMERA, BODY)
    exact = ShapeOptions(frame_points=100, all_points=400)  # masks without any noise
    errors, ious = [], []
    for betas in (
        mean.betas,
        fit_silhouettes(mean, masks, BODY).betas,
        fit_silhouettes(mean, masks, BODY, options=exact).betas,
    ):
        errors.append(shape_error_mm(betas, HEAVY))
        ious.append(mask_overlap(with_betas(mean, betas, CAMERA, BODY), masks, BODY).mean())
    assert errors[1] < 0.9 * errors[0]
    assert errors[2] < 0.6 * errors[0]
    assert ious[1] > ious[0] + 0.02
    assert ious[2] > ious[0] + 0.05


def test_loose_clothes_widen_people_less_than_a_mesh_that_sticks_out_slims_them():
    person = make_person(0)
    params = params_of(person)
    wide = shape_error_mm(fit_silhouettes(params, masks_of(params, wider=2), BODY).betas, params.betas)
    thin = with_betas(params, np.array([0, 1.5, 0, 0, 0, 0, 0, 0, 0, 0], np.float32), CAMERA, BODY)
    before = shape_error_mm(thin.betas, params.betas)
    slimmed = shape_error_mm(fit_silhouettes(thin, masks_of(params), BODY).betas, params.betas)
    assert wide < 15
    assert slimmed < before


def test_pixels_of_others_change_nothing(heavy):
    person, masks = heavy
    mean = with_betas(params_of(person), np.zeros(10, np.float32), CAMERA, BODY)
    known = masks.known.clone()
    known[:, :, SIDE // 2 :] = False
    spoiled = masks.masks.clone()
    spoiled[:, :, SIDE // 2 + 1 :] = True
    half = fit_silhouettes(mean, replace(masks, known=known), BODY).betas
    other = fit_silhouettes(mean, replace(masks, known=known, masks=spoiled), BODY).betas
    assert shape_error_mm(other, half) < 3


def test_masks_that_show_somebody_else_are_ignored(heavy):
    person, masks = heavy
    params = params_of(person)
    elsewhere = replace(masks, masks=masks.masks.roll(SIDE // 2, dims=2))
    assert np.array_equal(fit_silhouettes(params, elsewhere, BODY).betas, params.betas)


@pytest.mark.parametrize("gender", ["male", "female"])
def test_silhouettes_choose_the_body_of_a_mean_man_and_woman_and_say_how_sure_that_is(gender):
    person = make_person(0)
    mean = params_of(person, np.zeros(10, np.float32))
    true = with_betas(mean, mean.betas, CAMERA, free_body(gender, BODY.device, BODY.dtype))
    fit = fit_gender(mean, masks_of(true), BODY, CAMERA)
    assert fit.params.gender == gender
    assert fit.params.model == f"hmrkit-body-0-{gender}"
    assert fit.probabilities[GENDERS.index(gender)] > 0.5
    assert fit.probabilities.sum() == pytest.approx(1)
    assert mask_overlap(fit.params, masks_of(true), BODY).mean() > 0.95


def test_a_person_without_a_mask_of_their_own_keeps_their_body(heavy):
    person, masks = heavy
    elsewhere = replace(masks, masks=masks.masks.roll(SIDE // 2, dims=2))
    fit = fit_gender(params_of(person), elsewhere, BODY, CAMERA)
    assert fit.params.gender == "neutral"
    np.testing.assert_allclose(fit.params.betas, person.betas, atol=1e-6)
    np.testing.assert_allclose(fit.probabilities, 1 / 3)


def test_the_worse_the_best_body_fits_the_less_sure_its_gender_is():
    cost = np.array([40.0, 34.0, 46.0])
    clean, rough = (gender_probabilities(np.full(3, misfit), cost) for misfit in (20.0, 120.0))
    assert clean.argmax() == rough.argmax() == 1
    assert clean[1] > 0.9
    assert 1 / 3 < rough[1] < 0.7


def test_another_shape_keeps_its_place_in_the_image(heavy):
    person, _ = heavy
    params = params_of(person)
    tall = with_betas(params, np.array([2.0, 0, 0, 0, 0, 0, 0, 0, 0, 0], np.float32), CAMERA, BODY)
    before, after = (
        project(CAMERA, BODY.joints_only(p.global_orient, p.body_pose, p.betas, p.transl_c).joints.numpy())
        for p in (params, tall)
    )
    assert np.abs(before - after).max() < 0.05 * np.ptp(before[0, :, 1])


def bones_of(person, options, scale=None):
    clean = clean_track(person.track, person.keypoints, person.camera, person.times, options)
    if scale is not None:
        clean = replace(clean, landmarks=clean.landmarks * scale)
    return BoneLengths.measure(clean, options, torch.device("cpu"))


def test_a_side_that_is_never_seen_takes_the_other_ones_lengths():
    person = make_person(0)
    points = person.keypoints.keypoints_2d.copy()
    points[:, BLAZEPOSE_33.index["left_wrist"], 2] = 0
    hidden = replace(person, keypoints=replace(person.keypoints, keypoints_2d=points))
    options = FitOptions(smooth=False)
    forearms = [k for k, (start, end) in enumerate(BONES) if end.endswith("wrist")]
    lengths = bones_of(hidden, options).log_length[forearms]
    assert lengths[0] == lengths[1]
    torch.testing.assert_close(lengths, bones_of(person, options).log_length[forearms], atol=0.02, rtol=0)


def test_known_shrinkage_is_taken_out_and_long_tracks_say_more():
    person = make_person(0)
    plain, known = (bones_of(person, FitOptions(smooth=False, bone_shrinkage=s)) for s in (None, SHRINKAGE))
    shrinkage = torch.tensor(SHRINKAGE)
    torch.testing.assert_close(known.log_length - plain.log_length, -shrinkage, atol=1e-5, rtol=0)
    short = make_person(0, frames=slice(0, 1))
    assert bones_of(short, FitOptions(smooth=False)).spread[0] > 1.5 * plain.spread[0]
    betas = fit_shape(plain, body_landmarks(BODY), FitOptions())
    assert betas.norm() < 0.5  # the mean body was seen


def take_of(tracks):
    video = VideoInfo("", "", CAMERA.width, CAMERA.height, 30, 10, np.arange(10), np.arange(10) / 30)
    return Take(video, CAMERA, tracks=tuple(tracks))


def track(track_id, box, frames):
    count = len(frames)
    boxes = np.tile(np.array(box, np.float32), (count, 1))
    return Track(track_id, np.array(frames), boxes, np.ones(count, np.float32), np.zeros(count, bool))


def test_frames_in_which_others_stand_in_front_are_avoided_and_their_pixels_not_known():
    person = track(1, (100, 100, 200, 300), [0, 1, 2, 3])
    take = take_of([person, track(2, (150, 100, 250, 300), [2, 3, 4])])
    share = hidden_share(take, person)
    assert share.tolist() == [0, 0, 0.5, 0.5]
    assert spread_rows(0.8 * (1 - share), 2).tolist() == [0, 2]
    assert spread_rows(np.zeros(4)).size == 0
    scale = np.diag([200 / 256, 200 / 256, 1.0])
    scale[:2, 2] = 100  # the crop is the image from (100, 100) to (300, 300)
    known = known_pixels(take, person, np.array([0, 2]), np.stack([scale, scale]))
    assert known[0].all()
    x, y = 60, 30  # of 128: image (194, 147), inside the other's box
    assert not known[1, y, x]
    assert known[1, y, 10]


def test_what_gives_the_shape_by_default():
    assert Options(method="fit").shape == "silhouette"
    assert Options(method="hmr").shape == "silhouette"
    assert Options(method="hmr", keypoints="movenet-thunder").shape == "mesh"
    assert Options(method="fit", keypoints="toy").shape == "mesh"
    assert Options(method="pc-hmr", mesh="file:people.npz").shape == "mesh"
    with pytest.raises(UsageError, match="--shape is bones"):
        Options(method="fit", gender="auto", shape="bones")
    with pytest.raises(UsageError, match=r"leave out --body mine\.npz"):
        Options(method="fit", gender="auto", body="mine.npz")
    with pytest.raises(UsageError, match="silhouette, bones, mesh, mean"):
        Options(shape="wide")

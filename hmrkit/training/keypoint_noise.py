"""Synthetic landmarks: what the backbone would predict of captured people (`PointEstimates`), without images.

Rendering costs much more than drawing a pose, so regressors learn mostly from poses alone. Landmarks and points of a
drawn pose get errors as the backbone makes them. They are measured on images that no part was trained on (the held-out
pool): for each point of each image, the step from its true place to the predicted one. A synthetic person gets the
steps of the person with the nearest pose in the pool, all of them together.

Two corrections make up for the difference between rendered and real people. Steps of landmarks are shortened at random,
because BlazePose errs more on rendered people than on real ones; the constant way in which it places the features of
faces is left, since it does that on real people too. Faces among the body points are rotated at random, because they
were learned on rendered faces alone.

People in motion (`LandmarkNoise.predict_moving`) get errors that last: they go from the steps of the first frame's
nearest person to those of the last frame's. Each frame adds a small part of anybody's steps: points jitter together.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from hmrkit.backbones import Landmarks
from hmrkit.backbones.embedded import PointEstimates, head_frame
from hmrkit.blazepose.integral_head import BodyPoints
from hmrkit.body import Body
from hmrkit.body.landmarks import body_landmarks, world_from_local
from hmrkit.crops import REGION_POINTS
from hmrkit.geometry import axis_angle_to_matrix
from hmrkit.regressors.crop_camera import CROP, crop_camera, project
from hmrkit.skeletons import BLAZEPOSE_33, BLAZEPOSE_FACE, SMPL_24
from hmrkit.synthetic.cameras import TRAINING, Views, draw_views
from hmrkit.synthetic.poses import PoseSampler
from hmrkit.training.examples import Truth

# Landmark errors are shortened to at least this part; in this part of the images they stay as they are.
SHORTEST_STEP, WHOLE_STEPS = 0.2, 0.5
# The same of the body's points, which were learned on rendered people and err more on real ones.
POINT_STEPS = (0.6, 1.4)
# How far the body's points of a face are rotated about each axis (standard deviation, rad).
FACE_ROTATION = 0.25
# The nearest pose is searched for among so many people of the pool.
CANDIDATES = 64
# Of people in motion: the part of anybody's steps that each frame of a clip gets, at most, and how often all of them.
JITTER, SPIKES = 0.35, 0.02
JOINTS = len(SMPL_24)
REGION_ROWS = [JOINTS + k for k in BLAZEPOSE_33.indices(*REGION_POINTS)]  # of the points that decide the crop
_HIPS = BLAZEPOSE_33.indices("left_hip", "right_hip")


class LandmarkNoise:
    """The backbone's errors: the steps from the `true` points of N examples to those `predicted` for them."""

    def __init__(self, predicted: PointEstimates, true: PointEstimates) -> None:
        found, right = (side.landmarks.world[:, :BLAZEPOSE_FACE] for side in (predicted, true))
        steps = (found - found.mean(1, keepdim=True)) - (right - right.mean(1, keepdim=True))
        # How BlazePose places the features of every face, in the head's own axes.
        self._face_offsets = (steps @ head_frame(true.landmarks.world)).median(0).values
        self._landmark_steps = _steps(self._with_face_offsets(true.landmarks), predicted.landmarks)
        self._point_steps = _steps(true.points, predicted.points)
        self._visible, self._spread = predicted.landmarks.points_2d[..., 2:], predicted.points.spread
        self._poses = _pose_vector(true.landmarks.world)

    def shrink_errors(self, predicted: PointEstimates, true: Landmarks, generator: torch.Generator) -> PointEstimates:
        """Predictions for B people, the landmarks of half of them moved nearer to the `true` ones."""
        found, right = predicted.landmarks, self._with_face_offsets(true)
        whole = torch.rand(len(found.world), generator=generator) < WHOLE_STEPS
        length = torch.where(whole, 1.0, _lengths(len(whole), SHORTEST_STEP, 1.0, generator))
        length = length.to(found.world.device)[:, None, None]
        points = torch.lerp(right.points_2d, found.points_2d, length)[..., :2]
        landmarks = Landmarks(
            torch.cat([points, found.points_2d[..., 2:]], -1), torch.lerp(right.world, found.world, length)
        )
        return PointEstimates(landmarks, jitter_faces(predicted.points, generator))

    def predict(self, true: PointEstimates, generator: torch.Generator) -> PointEstimates:
        """What the backbone might predict for B people whose `true` points these are."""
        rows = self._nearest(true.landmarks.world, generator)
        pixels, world = _moved(
            self._with_face_offsets(true.landmarks), self._landmark_steps, rows, (SHORTEST_STEP, 1.0), generator
        )
        landmarks = Landmarks(torch.cat([pixels, self._visible[rows]], -1), world)
        points = BodyPoints(*_moved(true.points, self._point_steps, rows, POINT_STEPS, generator), self._spread[rows])
        return PointEstimates(landmarks, jitter_faces(points, generator))

    def predict_moving(self, true: PointEstimates, frames: int, generator: torch.Generator) -> PointEstimates:
        """`predict` for clips of `frames` frames each, one clip after the other in the rows of `true`."""
        world = true.landmarks.world.unflatten(0, (-1, frames))
        clips, device = len(world), world.device
        first, last = (self._nearest(world[:, at], generator) for at in (0, -1))
        share = torch.linspace(0, 1, frames, device=device)[:, None, None]
        anybody = torch.randint(len(self._poses), (clips, frames), generator=generator).to(device)
        part = JITTER * torch.rand(clips, 1, generator=generator).expand(clips, frames)
        part = torch.where(torch.rand(clips, frames, generator=generator) < SPIKES, 1.0, part).to(device)

        def moved(
            points: Landmarks | BodyPoints, steps: tuple[Tensor, Tensor], lengths: tuple[float, float]
        ) -> tuple[Tensor, Tensor]:
            length = _lengths(clips, *lengths, generator).to(device)[:, None, None, None]
            slow = (length * torch.lerp(step[first][:, None], step[last][:, None], share) for step in steps)
            fast = (part[..., None, None] * (step[anybody] - step.mean(0)) for step in steps)
            pixels, metres = ((a + b).flatten(0, 1) for a, b in zip(slow, fast, strict=True))
            return points.points_2d[..., :2] + pixels, points.world + metres

        person = first.repeat_interleave(frames)
        pixels, metres = moved(self._with_face_offsets(true.landmarks), self._landmark_steps, (SHORTEST_STEP, 1.0))
        landmarks = Landmarks(torch.cat([pixels, self._visible[person]], -1), metres)
        points = BodyPoints(*moved(true.points, self._point_steps, POINT_STEPS), self._spread[person])
        return PointEstimates(landmarks, jitter_faces(points, generator, frames))

    def _nearest(self, world: Tensor, generator: torch.Generator) -> Tensor:
        """Rows (B,) of the pool, of the people with about the poses of world landmarks (B,33,3)."""
        candidates = torch.randint(len(self._poses), (len(world), CANDIDATES), generator=generator).to(world.device)
        likeness = torch.einsum("bkc,bc->bk", self._poses[candidates], _pose_vector(world))
        return candidates.gather(1, likeness.argmax(1, keepdim=True))[:, 0]

    def _with_face_offsets(self, true: Landmarks) -> Landmarks:
        """True landmarks, those of the face moved (in m) to where BlazePose places them."""
        face = true.world[:, :BLAZEPOSE_FACE] + self._face_offsets @ head_frame(true.world).mT
        return replace(true, world=torch.cat([face, true.world[:, BLAZEPOSE_FACE:]], 1))


def jitter_faces(points: BodyPoints, generator: torch.Generator, frames: int = 1) -> BodyPoints:
    """Points with the faces of B people rotated by `FACE_ROTATION`, in the crop as in metres; alike in the `frames`
    frames of each person."""
    face = slice(JOINTS, JOINTS + BLAZEPOSE_FACE)
    angles = FACE_ROTATION * torch.randn(len(points.world) // frames, 3, generator=generator)
    rotation = axis_angle_to_matrix(angles).repeat_interleave(frames, 0)
    from_middle = points.world[:, face] - points.world[:, face].mean(1, keepdim=True)
    step = from_middle @ rotation.to(from_middle.device).mT - from_middle
    # The size of a metre in the crop.
    sizes = [(at - at.mean(1, keepdim=True)).square().sum((1, 2)) for at in (points.points_2d, points.world[..., :2])]
    scale = (sizes[0] / sizes[1].clamp_min(1e-6)).sqrt()[:, None, None]
    world, crop = points.world.clone(), points.points_2d.clone()
    world[:, face] += step
    crop[:, face] += scale * step[..., :2]
    return replace(points, points_2d=crop, world=world)


def true_points(truth: Truth, body: Body) -> PointEstimates:
    """True landmarks, all of them visible, and true points of bodies."""
    points = posed_points(truth.global_orient, truth.body_pose, truth.betas, body)
    return _estimates(points, truth.transl_c, truth.focal_px)


class NoisyLandmarks:
    """Draws people to train on, and the crops that show them, as `SyntheticImages` does, without images."""

    def __init__(self, body: Body, noise: LandmarkNoise) -> None:
        self.body, self.noise = body, noise
        self._poses = PoseSampler()

    @torch.no_grad()
    def __call__(self, batch: int, generator: torch.Generator) -> tuple[PointEstimates, Truth]:
        """`batch` people: noisy landmarks and points, and the truth."""
        orient, pose, betas = (value.to(self.body.device) for value in self._poses(batch, generator))
        points = posed_points(orient, pose, betas, self.body)
        views = draw_views(points[:, REGION_ROWS], points[:, 0], TRAINING, CROP, generator)
        true, truth = seen_by(views, points, orient, pose, betas)
        return self.noise.predict(true, generator), truth


def seen_by(views: Views, points: Tensor, orient: Tensor, pose: Tensor, betas: Tensor) -> tuple[PointEstimates, Truth]:
    """What a backbone without errors predicts of bodies with such `points` (B,57,3) m in the world, and the truth."""
    pelvis = points[:, 0]
    # A body rotates about its pelvis, which does not lie in its origin.
    transl = views.apply(pelvis[:, None])[:, 0] - pelvis
    true = _estimates(views.apply(points) - transl[:, None], transl, views.focal_px)
    joints_2d = (true.points.points_2d[:, :JOINTS] + 1) * (CROP / 2)
    return true, Truth(views.rotation @ orient, pose, betas, transl, views.focal_px, joints_2d)


def _steps(true: Landmarks | BodyPoints, predicted: Landmarks | BodyPoints) -> tuple[Tensor, Tensor]:
    return predicted.points_2d[..., :2] - true.points_2d[..., :2], predicted.world - true.world


def _moved(
    true: Landmarks | BodyPoints,
    steps: tuple[Tensor, Tensor],
    rows: Tensor,
    lengths: tuple[float, float],
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Points in the crop and in metres, each person moved by the steps of a row of the pool."""
    length = _lengths(len(rows), *lengths, generator).to(rows.device)[:, None, None]
    return true.points_2d[..., :2] + length * steps[0][rows], true.world + length * steps[1][rows]


def _lengths(count: int, shortest: float, longest: float, generator: torch.Generator) -> Tensor:
    return shortest + (longest - shortest) * torch.rand(count, generator=generator)


def posed_points(orient: Tensor, pose: Tensor, betas: Tensor, body: Body) -> Tensor:
    """Joints, then landmarks (B,57,3) in m about the body's origin."""
    found = []
    local = torch.cat([orient[:, None], pose], 1)
    for start in range(0, len(local), 1024):
        part = slice(start, start + 1024)
        joints = body.joints_only(orient[part], pose[part], betas[part]).joints
        found.append(torch.cat([joints, body_landmarks(body)(world_from_local(local[part]), betas[part])[0]], 1))
    return torch.cat(found)


def _estimates(points: Tensor, transl: Tensor, focal_px: Tensor) -> PointEstimates:
    """What a backbone without errors predicts of bodies with such `points` in the crop's camera."""
    pixels = project(points, crop_camera(transl, focal_px), focal_px)
    world, visible = points[:, JOINTS:], torch.ones_like(points[:, JOINTS:, :1])
    hips = world[:, _HIPS].mean(1, keepdim=True)
    return PointEstimates(
        Landmarks(torch.cat([pixels[:, JOINTS:], visible], -1), world - hips),
        BodyPoints(pixels / (CROP / 2) - 1, points - points[:, :1], torch.zeros_like(points[..., 0])),
    )


def _pose_vector(world: Tensor) -> Tensor:
    """Pose and heading of world landmarks (B,33,3) as a unit vector (B,99)."""
    return torch.nn.functional.normalize(world.flatten(1), dim=1)

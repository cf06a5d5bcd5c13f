"""People of motion capture as they would be told about (`hmrkit.backbones.embedded.Told`), without pictures.

Pictures cost a second of a core for twenty, and ten thousand of them hold ten thousand poses. What landmarks and points
say about a pose can be learned from any number of poses in milliseconds, if they are as wrong as those of pictures are.
How wrong those are, pictures tell that no part was trained on: for each point of each picture the step from where it is
on the body to where it was found. A simulated person gets the steps of a person who is held alike, whole.

BlazePose errs more on rendered people than on the real ones it was trained on. A network that only ever meets its
errors on rendered people does not believe it where it is right. So its steps are shortened, in pictures as without. How
it draws faces (ears 2 cm too low, the nose 1 cm too high) is no error of that kind: it draws real ones so, too, and a
network that is taught otherwise sees heads look up.

The body's points were learned on rendered people alone. Real faces have hair, beards and glasses that those lack, so
the points of faces are told turned, and a network that learns from them looks at BlazePose's for the rest.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from hmrkit.backbones import Landmarks
from hmrkit.backbones.embedded import Told, head_frame
from hmrkit.body import Body
from hmrkit.body_points import BodyPoints
from hmrkit.crops import REGION_POINTS
from hmrkit.geometry import axis_angle_to_matrix
from hmrkit.landmarks import body_landmarks, world_from_local
from hmrkit.regressors.projection import CROP, crop_camera, project
from hmrkit.skeletons import BLAZEPOSE_33, BLAZEPOSE_FACE, SMPL_24
from hmrkit.training.examples import Truth
from hmrkit.training.poses import PoseSampler
from hmrkit.training.scenes import TRAINING, draw_views

SHORTEST_STEP, WHOLE_STEPS = 0.2, 0.5
# Of the body's points, which were learned on rendered people and err more on real ones.
POINT_STEPS = (0.6, 1.4)
# How far the body's points of a face are turned about each axis (standard deviation, rad).
FACE_TURN = 0.25
# So many strangers are looked at for one who is held alike.
CANDIDATES = 64
JOINTS = len(SMPL_24)
_HIPS = BLAZEPOSE_33.indices("left_hip", "right_hip")


class Slips:
    """How the backbone errs: the steps from what is `right` of N examples to what it `told` of them."""

    def __init__(self, told: Told, right: Told) -> None:
        found, there = (side.landmarks.world[:, :BLAZEPOSE_FACE] for side in (told, right))
        steps = (found - found.mean(1, keepdim=True)) - (there - there.mean(1, keepdim=True))
        self._drawn = (steps @ head_frame(right.landmarks.world)).median(0).values
        self._landmarks = _steps(self._as_drawn(right.landmarks), told.landmarks)
        self._points = _steps(right.points, told.points)
        self._visible, self._spread = told.landmarks.points_2d[..., 2:], told.points.spread
        self._held = _direction(right.landmarks.world)

    def shortened(self, told: Told, right: Landmarks, generator: torch.Generator) -> Told:
        """What was told of B people, the landmarks of half of them nearer to the `right` ones."""
        found, right = told.landmarks, self._as_drawn(right)
        whole = torch.rand(len(found.world), generator=generator) < WHOLE_STEPS
        length = torch.where(whole, 1.0, _lengths(len(whole), SHORTEST_STEP, 1.0, generator))
        length = length.to(found.world.device)[:, None, None]
        points = torch.lerp(right.points_2d, found.points_2d, length)[..., :2]
        landmarks = Landmarks(
            torch.cat([points, found.points_2d[..., 2:]], -1), torch.lerp(right.world, found.world, length)
        )
        return Told(landmarks, turned_faces(told.points, generator))

    def of_people(self, right: Told, generator: torch.Generator) -> Told:
        """What might be told of B people of whom `right` is true."""
        count, device = len(right.points.world), right.points.world.device
        strangers = torch.randint(len(self._held), (count, CANDIDATES), generator=generator).to(device)
        alike = torch.einsum("bkc,bc->bk", self._held[strangers], _direction(right.landmarks.world))
        rows = strangers.gather(1, alike.argmax(1, keepdim=True))[:, 0]
        said, world = _moved(self._as_drawn(right.landmarks), self._landmarks, rows, (SHORTEST_STEP, 1.0), generator)
        landmarks = Landmarks(torch.cat([said, self._visible[rows]], -1), world)
        points = BodyPoints(*_moved(right.points, self._points, rows, POINT_STEPS, generator), self._spread[rows])
        return Told(landmarks, turned_faces(points, generator))

    def _as_drawn(self, right: Landmarks) -> Landmarks:
        """Landmarks with the face's where BlazePose says in metres that such a face has them."""
        face = right.world[:, :BLAZEPOSE_FACE] + self._drawn @ head_frame(right.world).mT
        return replace(right, world=torch.cat([face, right.world[:, BLAZEPOSE_FACE:]], 1))


def turned_faces(points: BodyPoints, generator: torch.Generator) -> BodyPoints:
    """Points with the faces of B people turned by `FACE_TURN`, in the crop as in metres."""
    face = slice(JOINTS, JOINTS + BLAZEPOSE_FACE)
    turn = axis_angle_to_matrix(FACE_TURN * torch.randn(len(points.world), 3, generator=generator))
    from_middle = points.world[:, face] - points.world[:, face].mean(1, keepdim=True)
    step = from_middle @ turn.to(from_middle.device).mT - from_middle
    # So large is a metre in the crop.
    sizes = [(at - at.mean(1, keepdim=True)).square().sum((1, 2)) for at in (points.points_2d, points.world[..., :2])]
    scale = (sizes[0] / sizes[1].clamp_min(1e-6)).sqrt()[:, None, None]
    world, crop = points.world.clone(), points.points_2d.clone()
    world[:, face] += step
    crop[:, face] += scale * step[..., :2]
    return replace(points, points_2d=crop, world=world)


def rightly_told(truth: Truth, body: Body) -> Told:
    """Landmarks, all of them visible, and points where they are on bodies."""
    points = _points(truth.global_orient, truth.body_pose, truth.betas, body)
    return _told(points, truth.transl_c, truth.focal_px)


class SimulatedPeople:
    """Draws people to train on and the crops that they are seen in, as `SyntheticImages` does, without pictures."""

    def __init__(self, body: Body, slips: Slips) -> None:
        self.body, self.slips = body, slips
        self._poses = PoseSampler()
        self._region = BLAZEPOSE_33.indices(*REGION_POINTS)

    @torch.no_grad()
    def __call__(self, batch: int, generator: torch.Generator) -> tuple[Told, Truth]:
        """`batch` people: what might be told of them, and the truth."""
        orient, pose, betas = (value.to(self.body.device) for value in self._poses(batch, generator))
        points = _points(orient, pose, betas, self.body)
        pelvis = points[:, 0]
        views = draw_views(points[:, JOINTS:][:, self._region], pelvis, TRAINING, CROP, generator)
        # A body turns about its pelvis, which does not lie in its origin.
        transl = views.apply(pelvis[:, None])[:, 0] - pelvis
        right = _told(views.apply(points) - transl[:, None], transl, views.focal_px)
        seen = (right.points.points_2d[:, :JOINTS] + 1) * (CROP / 2)
        truth = Truth(views.rotation @ orient, pose, betas, transl, views.focal_px, seen)
        return self.slips.of_people(right, generator), truth


def _steps(right: Landmarks | BodyPoints, found: Landmarks | BodyPoints) -> tuple[Tensor, Tensor]:
    return found.points_2d[..., :2] - right.points_2d[..., :2], found.world - right.world


def _moved(
    right: Landmarks | BodyPoints,
    steps: tuple[Tensor, Tensor],
    rows: Tensor,
    lengths: tuple[float, float],
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Points in the crop and in metres, each person moved by somebody's steps."""
    length = _lengths(len(rows), *lengths, generator).to(rows.device)[:, None, None]
    return right.points_2d[..., :2] + length * steps[0][rows], right.world + length * steps[1][rows]


def _lengths(count: int, shortest: float, longest: float, generator: torch.Generator) -> Tensor:
    return shortest + (longest - shortest) * torch.rand(count, generator=generator)


def _points(orient: Tensor, pose: Tensor, betas: Tensor, body: Body) -> Tensor:
    """Joints, then landmarks (B,57,3) in m about the body's origin."""
    found = []
    local = torch.cat([orient[:, None], pose], 1)
    for start in range(0, len(local), 1024):
        part = slice(start, start + 1024)
        joints = body.joints_only(orient[part], pose[part], betas[part]).joints
        found.append(torch.cat([joints, body_landmarks(body)(world_from_local(local[part]), betas[part])[0]], 1))
    return torch.cat(found)


def _told(points: Tensor, transl: Tensor, focal_px: Tensor) -> Told:
    """What is rightly told of bodies with such `points` in the crop's camera."""
    pixels = project(points, crop_camera(transl, focal_px), focal_px)
    said, seen = points[:, JOINTS:], pixels[:, JOINTS:]
    hips = said[:, _HIPS].mean(1, keepdim=True)
    return Told(
        Landmarks(torch.cat([seen, torch.ones_like(said[..., :1])], -1), said - hips),
        BodyPoints(pixels / (CROP / 2) - 1, points - points[:, :1], torch.zeros_like(points[..., 0])),
    )


def _direction(world: Tensor) -> Tensor:
    """How a person is held and faces, as a unit vector (B,99)."""
    return torch.nn.functional.normalize(world.flatten(1), dim=1)

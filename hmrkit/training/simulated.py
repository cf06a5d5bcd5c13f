"""People of motion capture as BlazePose would report them, without pictures.

Pictures cost a second of a core for twenty, and ten thousand of them hold ten thousand poses. What landmarks say about
a pose can be learned from any number of poses in milliseconds, if the landmarks are as wrong as BlazePose's are. How
wrong they are, kept pictures tell: for each landmark of each picture the step from where it is on the body to where
BlazePose put it. A simulated person gets the steps of a person who is held alike, whole.

BlazePose errs more on rendered people than on the real ones it was trained on. A network that only ever meets its
errors on rendered people does not believe it where it is right. So steps are shortened, in pictures as without.
"""

from __future__ import annotations

from dataclasses import fields

import torch
from torch import Tensor

from hmrkit.backbones import Landmarks
from hmrkit.body import Body
from hmrkit.crops import REGION_POINTS
from hmrkit.landmarks import body_landmarks, world_from_local
from hmrkit.regressors.projection import CROP, crop_camera, project
from hmrkit.skeletons import BLAZEPOSE_33
from hmrkit.training.examples import Truth
from hmrkit.training.motion import Split
from hmrkit.training.poses import PoseSampler
from hmrkit.training.scenes import Difficulty, draw_views

SHORTEST_STEP, WHOLE_STEPS = 0.2, 0.5
# So many strangers are looked at for one who is held alike.
CANDIDATES = 64
_HIPS = BLAZEPOSE_33.indices("left_hip", "right_hip")


class LandmarkErrors:
    """How BlazePose errs: the steps from `truth` to `found` of N examples."""

    def __init__(self, found: Landmarks, truth: Truth, body: Body) -> None:
        self.body = body
        right = right_landmarks(truth, body)
        self._steps = found.points_2d[..., :2] - right.points_2d[..., :2], found.world - right.world
        self._visible, self._held = found.points_2d[..., 2:], _direction(right.world)

    def shortened(self, found: Landmarks, truth: Truth, generator: torch.Generator) -> Landmarks:
        """What was found of B people, half of it nearer to the `truth`."""
        right = right_landmarks(truth, self.body)
        whole = torch.rand(len(found.world), generator=generator) < WHOLE_STEPS
        length = torch.where(whole, 1.0, _lengths(len(whole), generator)).to(found.world.device)[:, None, None]
        return Landmarks(
            torch.cat([torch.lerp(right.points_2d, found.points_2d, length)[..., :2], found.points_2d[..., 2:]], -1),
            torch.lerp(right.world, found.world, length),
        )

    def of_people(self, right: Landmarks, generator: torch.Generator) -> Landmarks:
        """What might be found of B people whose landmarks are `right`."""
        count, device = len(right.world), right.world.device
        strangers = torch.randint(len(self._held), (count, CANDIDATES), generator=generator).to(device)
        alike = torch.einsum("bkc,bc->bk", self._held[strangers], _direction(right.world))
        rows = strangers.gather(1, alike.argmax(1, keepdim=True))[:, 0]
        length = _lengths(count, generator).to(device)[:, None, None]
        points = right.points_2d[..., :2] + length * self._steps[0][rows]
        return Landmarks(torch.cat([points, self._visible[rows]], -1), right.world + length * self._steps[1][rows])


def right_landmarks(truth: Truth, body: Body) -> Landmarks:
    """BlazePose's landmarks where they are on bodies, all of them visible."""
    points = _landmarks(truth.global_orient, truth.body_pose, truth.betas, body)
    pixels = project(points, crop_camera(truth.transl_c, truth.focal_px), truth.focal_px)
    hips = points[:, _HIPS].mean(1, keepdim=True)
    return Landmarks(torch.cat([pixels, torch.ones_like(pixels[..., :1])], -1), points - hips)


class SimulatedPeople:
    """Draws people of one split and the crops that they are seen in, as `SyntheticImages` does, without pictures."""

    def __init__(self, body: Body, errors: LandmarkErrors, split: Split = "train") -> None:
        self.body, self.errors = body, errors
        self._poses, self._difficulty = PoseSampler(split), Difficulty()
        self._region = BLAZEPOSE_33.indices(*REGION_POINTS)

    @torch.no_grad()
    def __call__(self, batch: int, generator: torch.Generator) -> tuple[Landmarks, Truth]:
        """`batch` people: what BlazePose might say about them, and the truth."""
        orient, pose, betas = (value.to(self.body.device) for value in self._poses(batch, generator))
        points = _landmarks(orient, pose, betas, self.body)
        pelvis = self.body.joints_only(betas=betas).joints[:, 0]
        views = draw_views(points[:, self._region], pelvis, self._difficulty, CROP, generator)
        # A body turns about its pelvis, which does not lie in its origin.
        transl = views.apply(pelvis[:, None])[:, 0] - pelvis
        orient = views.rotation @ orient
        joints = self.body.joints_only(orient, pose, betas).joints
        seen = project(joints, crop_camera(transl, views.focal_px), views.focal_px)
        truth = Truth(orient, pose, betas, transl, views.focal_px, seen)
        return self.errors.of_people(right_landmarks(truth, self.body), generator), truth


def _lengths(count: int, generator: torch.Generator) -> Tensor:
    return SHORTEST_STEP + (1 - SHORTEST_STEP) * torch.rand(count, generator=generator)


def concatenate(first: Truth, second: Truth) -> Truth:
    """One after the other."""
    return Truth(**{f.name: torch.cat([getattr(first, f.name), getattr(second, f.name)]) for f in fields(Truth)})


def _landmarks(orient: Tensor, pose: Tensor, betas: Tensor, body: Body) -> Tensor:
    """(B,33,3) m about the body's origin."""
    found = []
    local = torch.cat([orient[:, None], pose], 1)
    for start in range(0, len(local), 1024):
        part = slice(start, start + 1024)
        found.append(body_landmarks(body)(world_from_local(local[part]), betas[part])[0])
    return torch.cat(found)


def _direction(world: Tensor) -> Tensor:
    """How a person is held and faces, as a unit vector (B,99)."""
    return torch.nn.functional.normalize(world.flatten(1), dim=1)

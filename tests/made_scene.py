"""A scene of two people made of the free body: one walks out of sight and back, the other comes later and leaves."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from functools import cache

import numpy as np
import torch

from hmrkit.body import load_body
from hmrkit.geometry import axis_angle_to_matrix
from hmrkit.scene import Character, Scene, SceneCamera
from hmrkit.skeletons import SMPL_24

Z_UP_FROM_Y_UP = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], np.float32)


@cache  # frozen, and slow to make
def made_scene(frames: int = 40, up: str = "y", unit: str = "m", first_frame: int = 1001, exact: bool = True) -> Scene:
    """Two people in a world with the ground at 0; the camera at 1.5 m, 4 m in front of them, rotated a little."""
    people = (
        _person("person_01", 1, first_frame + np.arange(frames), up, unit, exact, seed=0),
        _person("person_07", 7, first_frame + np.arange(5, max(frames - 4, 6)), up, unit, exact, seed=1),
    )
    seen = people[0].visible.copy()
    seen[frames // 3 : frames // 3 + 4] = False
    people = (replace(people[0], visible=seen), people[1])
    rotation = axis_angle_to_matrix(torch.tensor([-0.1, 0.2, 0.0], dtype=torch.float64)).numpy()
    axes = np.asarray(Z_UP_FROM_Y_UP if up == "z" else np.eye(3), np.float64)
    scene_from_camera = np.eye(4)
    scene_from_camera[:3, :3] = axes @ rotation
    scene_from_camera[:3, 3] = axes @ [0.3, 1.5, 4.0] * (100 if unit == "cm" else 1)
    camera = SceneCamera(
        scene_from_camera=scene_from_camera,
        focal_px=np.array([1000.0, 1000.0], np.float32),
        center_px=np.array([650.0, 340.0], np.float32),
        width=1280,
        height=720,
    )
    return Scene(
        name="clip",
        characters=people,
        camera=camera,
        fps=Fraction(30000, 1001),
        first_frame=first_frame,
        up=up,  # type: ignore[arg-type]
        unit=unit,  # type: ignore[arg-type]
        space="world",
        metadata={"smooth": 0.0, "note": "made for tests"},
    )


def _person(name: str, track_id: int, frames: np.ndarray, up: str, unit: str, exact: bool, seed: int) -> Character:
    generator = torch.Generator().manual_seed(seed)
    body = load_body()
    eye = torch.eye(3)[None]
    rest = body(eye, eye.expand(1, 23, 3, 3), torch.randn(10, generator=generator), torch.zeros(1, 3))
    axes = Z_UP_FROM_Y_UP if up == "z" else np.eye(3, dtype=np.float32)
    size = 100.0 if unit == "cm" else 1.0

    def placed(points: np.ndarray) -> np.ndarray:
        return (points @ axes.T * size).astype(np.float32)

    time = torch.linspace(0, 6, len(frames))[:, None, None]
    phase, speed = (torch.randn(24, 3, generator=generator) for _ in range(2))
    local = axis_angle_to_matrix(0.35 * torch.sin(speed * time + phase)).numpy()
    # The root rotates around more than once: quaternions must not jump when they change sides.
    local[:, 0] = axis_angle_to_matrix(1.3 * time[:, 0] * torch.tensor([0.05, 1.0, 0.1])).numpy()
    local = (axes @ local @ axes.T).astype(np.float32)
    path = torch.cat([0.2 * time[:, 0], 0.95 + 0.05 * torch.sin(3 * time[:, 0]), -0.3 * time[:, 0] + seed], 1)
    character = Character(
        name=name,
        track_id=track_id,
        frames=frames,
        visible=np.ones(len(frames), bool),
        joint_names=SMPL_24.joints,
        parents=SMPL_24.parents,
        rest_joints=placed(rest.joints[0].numpy()),
        rest_vertices=placed(rest.vertices[0].numpy()),
        faces=np.asarray(body.faces),
        skin_weights=np.asarray(body.weights.to_dense() if body.weights.is_sparse else body.weights, np.float32),
        local_rotations=local,
        root_positions=placed(path.numpy()),
        joints=np.zeros((len(frames), 24, 3), np.float32),
    )
    character = replace(character, joints=character.posed_joints())
    if not exact:
        return character
    return replace(character, exact_vertices=lambda rows: _calibrated(character, rows, size), calibrated=True)


def _calibrated(character: Character, rows: slice | np.ndarray, size: float) -> np.ndarray:
    """Skinning plus bumps of up to 2 cm that go up and down: what calibration may leave."""
    skinned = character.skinned(rows)
    time = np.arange(len(character))[rows, None, None] / 10.0
    places = character.rest_vertices / size
    bumps = [np.sin(4 * places + i) * np.sin((i + 1) * time) for i in range(3)]
    return (skinned + 0.02 * size * sum(bumps) / 3).astype(np.float32)

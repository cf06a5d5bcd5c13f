"""A person of known pose and shape before a known camera: what a fit is compared with."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from conftest import DATA

from hmrkit.body import load_body
from hmrkit.body.landmarks import BodyLandmarks, local_from_world, world_from_local
from hmrkit.camera import assume_camera, project
from hmrkit.geometry import axis_angle_to_matrix
from hmrkit.scene.resampling import Motion
from hmrkit.skeletons import BLAZEPOSE_33, SMPL_24
from hmrkit.synthetic.mocap import load_motion
from hmrkit.types import BodyParams, Camera, Keypoints, Track

BODY = load_body()
LANDMARKS = BodyLandmarks(BODY)
CAMERA = assume_camera(1280, 720)
LIMBS = BLAZEPOSE_33.indices(
    *(f"{side}_{name}" for name in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist") for side in ("left", "right"))
)


@dataclass(frozen=True)
class Person:
    """`world` rotations (T,24,3,3), `joints` (T,24,3), `landmarks` (T,33,3), all in the camera frame; `fps`."""

    track: Track
    keypoints: Keypoints
    world: torch.Tensor
    joints: np.ndarray
    landmarks: np.ndarray
    betas: np.ndarray
    fps: float
    camera: Camera = CAMERA

    @property
    def times(self) -> np.ndarray:
        """Of its frames, in s from the first."""
        frames = self.track.frame_indices
        return (frames - frames[0]) / self.fps


def make_person(clip=0, frames=slice(0, 60), betas=None, yaw=0.3, pitch=0.15, distance=4.0) -> Person:
    """One clip of the motion excerpt, seen from `distance` m by a camera rotated about the person by `yaw`."""
    motion = load_motion(DATA / "motion_excerpt.npz", "all")
    chosen = np.arange(len(motion))[motion.clip(clip)][frames]
    local = torch.from_numpy(motion.local_rotations[chosen]).float()
    root = torch.from_numpy(motion.root_pos_m[chosen]).float()
    upright = torch.diag(torch.tensor([1.0, -1, -1]))
    tilt, rotation = (axis_angle_to_matrix(torch.tensor(v)) for v in ([pitch, 0.0, 0.0], [0.0, yaw, 0.0]))
    camera_from_world = tilt @ upright @ rotation
    local[:, 0] = camera_from_world @ local[:, 0]
    root = (root - root.mean(0)) @ camera_from_world.T + torch.tensor([0, 0, distance])
    shape = torch.zeros(10) if betas is None else torch.as_tensor(betas, dtype=torch.float32)
    world = world_from_local(local)
    points, joints = (p + root[:, None] for p in LANDMARKS(world, shape))
    pixels = project(CAMERA, points.numpy())
    keypoints = keypoints_of(pixels, points.numpy())
    fps = motion.fps / (frames.step or 1)
    return Person(track_of(pixels), keypoints, world, joints.numpy(), points.numpy(), shape.numpy(), fps)


def keypoints_of(pixels, points, confidence=1.0) -> Keypoints:
    middle = points[:, BLAZEPOSE_33.indices("left_hip", "right_hip")].mean(1, keepdims=True)
    score = np.broadcast_to(np.float32(confidence), pixels.shape[:2])[..., None]
    return Keypoints(np.concatenate([pixels, score], -1).astype(np.float32), points - middle, BLAZEPOSE_33.name)


def arrays_of(keypoints: Keypoints) -> tuple[np.ndarray, np.ndarray]:
    """Copies of the 2D and 3D landmarks."""
    assert keypoints.joints_3d is not None
    return keypoints.keypoints_2d.copy(), keypoints.joints_3d.copy()


def track_of(pixels, boxes=None) -> Track:
    """One person's track with boxes (T,4), those about keypoints (T,K,2) by default."""
    if boxes is None:
        boxes = np.concatenate([pixels.min(1) - 10, pixels.max(1) + 10], 1).astype(np.float32)
    count = len(boxes)
    return Track(1, np.arange(count), boxes, np.ones(count, np.float32), np.zeros(count, bool))


def corrupted(person: Person, seed=0) -> Person:
    """Errors like BlazePose's: constant per landmark (3 cm, most in depth), jitter (1 cm), a lean, a scale."""
    rng = np.random.default_rng(seed)
    pixels, points = arrays_of(person.keypoints)
    depth = np.array([0.6, 0.6, 1.4])
    points = points + rng.normal(0, 0.03, (33, 3)) * depth + rng.normal(0, 0.012, points.shape) * depth
    lean = axis_angle_to_matrix(torch.tensor([rng.normal() * 0.1, 0.0, 0.0])).numpy()
    points = points @ lean.T * (1 + rng.normal() * 0.05)
    height = (person.track.boxes_xyxy[:, 3] - person.track.boxes_xyxy[:, 1])[:, None, None]
    pixels[..., :2] += (rng.normal(0, 0.01, (33, 2)) + rng.normal(0, 0.005, pixels[..., :2].shape)) * height
    points = points - points[:, BLAZEPOSE_33.indices("left_hip", "right_hip")].mean(1, keepdims=True)
    return replace(person, keypoints=Keypoints(pixels, points.astype(np.float32), BLAZEPOSE_33.name))


def pose_body(params):
    """Landmarks (T,33,3) and joints (T,24,3) of fitted parameters in the camera frame."""
    local = torch.from_numpy(np.concatenate([params.global_orient[:, None], params.body_pose], 1))
    points, joints = LANDMARKS(world_from_local(local), torch.from_numpy(params.betas))
    return points.numpy() + params.transl_c[:, None], joints.numpy() + params.transl_c[:, None]


def root_relative_mm(points, truth) -> float:
    """Mean distance in mm between limb landmarks (T,33,3), each about the middle of its hips."""
    a, b = (p[:, LIMBS] - p[:, LIMBS[:2]].mean(1, keepdims=True) for p in (points, truth))
    return float(np.linalg.norm(a - b, axis=-1).mean() * 1000)


def reprojection_percent(params, person: Person) -> float:
    """Median distance of the limbs' projections to the keypoints, in percent of the box's height."""
    off = project(person.camera, pose_body(params)[0]) - person.keypoints.keypoints_2d[..., :2]
    height = person.track.boxes_xyxy[:, 3] - person.track.boxes_xyxy[:, 1]
    return float(np.median(np.linalg.norm(off[:, LIMBS], axis=-1) / height[:, None]) * 100)


def make_motion_of(person, track_id=1, shift=(0.0, 0.0, 0.0)):
    """A synthetic person as a motion whose parameters are the truth."""
    local = local_from_world(person.world).numpy()
    given = local[:, 0], local[:, 1:], person.betas
    transl = person.joints[:, 0] - BODY.joints_only(*given).joints[:, 0].numpy() + np.asarray(shift, np.float32)
    params = BodyParams(*given, transl.astype(np.float32), "neutral", BODY.model_id)
    count = len(transl)
    joints = person.joints + np.asarray(shift, np.float32)
    seen = np.ones(count, bool)
    return Motion(track_id, np.arange(count), np.arange(count) * 1.0, seen, params, params, joints, params, False, "p")


def jittered(params, seed=0):
    """The same body parameters with noise of translation as keypoints have it."""
    random = np.random.default_rng(seed)
    noise = random.normal(0, [0.008, 0.008, 0.03], params.transl_c.shape)
    return replace(params, transl_c=(params.transl_c + noise).astype(np.float32))


def knee_flexion_deg(joints: np.ndarray) -> np.ndarray:
    """Angle (T,2) between thigh and shin, left first, of joints (T,24,3)."""
    sides = [SMPL_24.indices(f"{s}_hip", f"{s}_knee", f"{s}_ankle") for s in ("left", "right")]
    thigh, shin = (np.stack([joints[:, s[i + 1]] - joints[:, s[i]] for s in sides], 1) for i in range(2))
    cosine = (thigh * shin).sum(-1) / np.linalg.norm(thigh, axis=-1) / np.linalg.norm(shin, axis=-1)
    return np.degrees(np.arccos(cosine))

"""What a user can choose about images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hmrkit.errors import UsageError
from hmrkit.members import check_number, unknown
from hmrkit.skeletons import SMPL_24

VIEWS = {
    "overlay": "over the footage, from its camera",
    "side": "from the right",
    "top": "from above, the camera below the image",
    "turntable": "going around, once in eight seconds",
}
STYLES = {
    "solid": "shaded, a colour a person",
    "wireframe": "the edges of the visible triangles",
    "skeleton": "the 24 joints and their bones, left lighter than right",
    "parts": "a colour for each joint's part of the skin",
    "residual": "mm between the calibrated mesh and the body refitted to it, which skinned formats carry",
    "reprojection": "distance of the mesh's keypoints from those seen, % of the box's height",
    "misplacement": "mm between the mesh calibrated without the non-rigid term and with it (--what rigid)",
}
WHAT = {
    "meshes": "the final meshes",
    "iuv": "the IUV maps that danet estimates in every person's crop, over the footage",
    "compare": "the mesh stream's meshes and the calibrated ones beside each other",
    "rigid": "meshes calibrated to the lifted pose's proportions, with and without the non-rigid term",
    "weights": "the calibration weights A and W of the take's body, at rest, as one image",
}
# Views and style where none are chosen; what is drawn in one way only has no others.
DEFAULTS = {
    "meshes": (("overlay", "side"), "solid"),
    "iuv": (("overlay",), "solid"),
    "compare": (("overlay",), "solid"),
    "rigid": (("overlay", "side"), "misplacement"),
    "weights": (("overlay",), "solid"),
}
ONE_WAY = ("iuv", "weights")
BONES = ("left_shoulder", "left_elbow", "left_wrist", "left_knee", "left_ankle", "neck")
HEAT_MAX = {"residual": 2.0, "reprojection": 10.0, "misplacement": 20.0}


@dataclass(frozen=True)
class RenderOptions:
    """`what` is drawn (`WHAT`); the IUV maps and the weights have one view and one style.

    `views` in their order, the first one the largest: the others stand beside it, or with `inset` lie in its corner.

    `alpha` leaves out footage and writing: straight (unassociated) RGBA for compositing, of one view. `opacity` None
    lets a little of the footage through, and nothing elsewhere. `heat_max` is the value of the hottest colour (None:
    `HEAT_MAX`). `first_frame` is the number of the source's first frame in the names of a PNG
    sequence (None: as the source has it). `bones` are the
    columns of the weights, each named by the joint where it ends (none: `BONES`). UsageError where they do not go
    together.
    """

    views: Sequence[str] = ("overlay", "side")
    style: str = "solid"
    inset: bool = False
    alpha: bool = False
    opacity: float | None = None
    labels: bool = True
    heat_max: float | None = None
    first_frame: int | None = None
    what: str = "meshes"
    bones: Sequence[str] = ()

    def __post_init__(self) -> None:
        for view in self.views:
            if view not in VIEWS:
                raise unknown("--view", view, VIEWS)
        if not self.views or len(set(self.views)) < len(self.views):
            raise UsageError(f"--view wants some of {', '.join(VIEWS)}, each once, got {','.join(self.views)!r}")
        if self.style not in STYLES:
            raise unknown("--style", self.style, STYLES)
        if self.what not in WHAT:
            raise unknown("--what", self.what, WHAT)
        if self.what in ONE_WAY and ((tuple(self.views), self.style) != DEFAULTS[self.what] or self.alpha):
            raise UsageError(f"--what {self.what} is drawn in one way; leave out --view, --style and --alpha")
        if self.what in ("compare", "rigid") and (self.alpha or self.style in ("skeleton", "residual")):
            raise UsageError(f"--what {self.what} compares skins; leave out --alpha and --style skeleton or residual")
        if self.style == "misplacement" and self.what != "rigid":
            raise UsageError(f"--style misplacement is for --what rigid, got --what {self.what}")
        for bone in self.bones:
            if bone not in SMPL_24.joints[1:]:
                raise unknown("joint where a bone ends (--bones)", bone, SMPL_24.joints[1:])
        if self.bones and self.what != "weights":
            raise UsageError(f"--bones is for --what weights, got --what {self.what}")
        if self.alpha and len(self.views) > 1:
            raise UsageError(f"--alpha is for one view, got {','.join(self.views)}; add --view overlay")
        if self.opacity is not None and not 0 < self.opacity <= 1:
            raise UsageError(f"--opacity must be above 0 and at most 1, got {self.opacity}")
        check_number("--heat-max", self.heat_max, (1e-6, 1e9))
        check_number("--first-frame", self.first_frame, (-1e9, 1e9))
        if self.heat_max is not None and self.style not in HEAT_MAX:
            raise UsageError(f"--heat-max is for --style {' or '.join(HEAT_MAX)}, not for {self.style}; leave it out")

    @property
    def surfaces(self) -> bool:
        """Whether what is drawn is opaque and shows no edges."""
        return not self.alpha and self.style != "wireframe"

    @property
    def needs_footage(self) -> bool:
        """Whether the clip has to be decoded."""
        return "overlay" in self.views and not self.alpha

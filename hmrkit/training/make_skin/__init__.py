"""A neutral skin for the free body, painted by rules: ``weights/body/skin.jpg``, of `hmrkit export --texture skin`.

Nothing but the body itself goes into it. Each texel of the body's charts is a point of the rest surface, and its colour
depends on that point alone: two charts that meet at a seam have the same colours there.
"""

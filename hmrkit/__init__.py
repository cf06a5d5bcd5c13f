"""hmrkit: video in, 3D meshes of the people in it out. Importing this loads neither torch nor any model."""

__version__ = "0.1.0"

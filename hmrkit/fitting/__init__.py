"""Mesh stream ``fit``: bodies from keypoints, and their refinement."""

"""Bodies that were made before or elsewhere, as a mesh stream."""

"""BlazePose-heavy as it was published, and the trained head on its maps."""

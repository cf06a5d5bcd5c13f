"""Takes: what is known of a clip, on disk, cut and joined."""

from hmrkit.take.storage import (
    code_version,
    free_body_id,
    is_take,
    load_take,
    open_take,
    provenance_record,
    save_take,
    with_stage,
)

__all__ = [
    "code_version",
    "free_body_id",
    "is_take",
    "load_take",
    "open_take",
    "provenance_record",
    "save_take",
    "with_stage",
]

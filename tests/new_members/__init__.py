"""One new member of four families, one file each, as `tests/test_new_members.py` adds them to the tables."""

"""Many clips: names of their folders, shards of a list, journals, and what spreads them over GPUs and machines."""

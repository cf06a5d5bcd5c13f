"""This machine: how fast the chain is on it, what harm it withstands, and whether it would run at all."""

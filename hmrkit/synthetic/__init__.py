"""Synthetic images of people with the truth about them."""

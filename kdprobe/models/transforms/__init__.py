"""Twins of a network: the same layers with one thing changed."""

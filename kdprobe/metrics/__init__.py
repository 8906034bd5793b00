"""Reckoning: one file a metric, `contract.py` says what a metric is. No network and no plot."""

"""Data sets: one file a data set, `contract.py` says what a data set is."""

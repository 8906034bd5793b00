"""Reading checkpoints: one file a format, `contract.py` says what a format is."""

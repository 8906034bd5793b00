"""Running tasks: one file an executor, `contract.py` says what an executor is."""

"""What should the student copy?  One loss a file; `contract.py` says what a loss is."""

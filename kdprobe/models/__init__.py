"""Network families of the bundled zoo: one file a family, `contract.py` says what a family is."""

"""One file a section of the report; `contract.py` says what a section is."""

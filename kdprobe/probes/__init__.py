"""Looking: what the networks show. One file a probe, `contract.py` says what a probe is."""

"""Training data made harder: which images are kept, and with which labels."""

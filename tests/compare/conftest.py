"""Lets the tests of this folder import what is made by hand beside them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

"""The arithmetic of a comparison: results side by side, no network, no page."""

"""Other ways to a small or robust network, beside distillation: what changes while it trains."""

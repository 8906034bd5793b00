"""Making checkpoints: recipes, losses and the loop. Knows no metric, and no metric knows it."""

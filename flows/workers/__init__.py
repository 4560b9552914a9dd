"""Work pools and their workers: who trains where, and what ends a training."""

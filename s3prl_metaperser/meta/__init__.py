"""Meta-learning: the inner loop, its learned rates, derivative annealing, the outer gradient."""

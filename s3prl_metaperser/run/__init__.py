"""One cell of the benchmark: its data, its training, its experiment folder."""

"""Numbers: metrics, their intervals, and the result files that hold them."""

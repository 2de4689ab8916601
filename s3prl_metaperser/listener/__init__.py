"""Adapt a trained model to one listener, and use it: from the shell, from Python, on a local page."""

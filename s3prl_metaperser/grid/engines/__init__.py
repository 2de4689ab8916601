"""Engines that spread a grid's jobs over processes, GPUs and nodes."""

"""The benchmark grid: every upstream x scope x scenario x system x fold x K of a table, from one YAML file.

``definition`` reads the file, ``cells`` makes cells of it, ``relevance`` knows which options can change a cell's
numbers, ``results`` is the folder with the cells' states and locks, ``stages`` what cells share. ``session`` runs one
cell, ``work`` all of them, ``jobs`` and ``engines`` through Snakemake. ``status`` shows progress, ``plan`` and ``cost``
what is to come. Only ``session`` needs torch.
"""

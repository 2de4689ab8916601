"""The benchmark grid: every upstream x scope x scenario x system x fold x K of a table, from one YAML file.

``definition`` reads the file, ``cells`` makes cells of it, ``relevance`` says which options can change a cell's
numbers, ``results`` is the folder with the cells' states and locks, ``stages`` what cells share, ``session`` runs one
cell, ``work`` all of them, ``status`` and ``plan`` say how far it is. Only ``session`` needs torch.
"""

"""From predictions to numbers: metrics, intervals, comparisons, and the result file."""

#: The version of the result file's keys that is written (docs/results.md); kept here, where asking costs no import.
SCHEMA = 4
#: Versions that are read. 3 is that of 0.1.0: it has no ``task`` and no ``label_set``.
READABLE = (3, 4)

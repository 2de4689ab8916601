"""The version of the result file's keys (docs/results.md), where asking for it costs no import."""

SCHEMA = 3

"""Families of tasks, one file each: what is told apart in a benchmark of theirs."""

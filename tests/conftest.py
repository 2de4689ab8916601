"""Shared by all tests: one thread, no network, a cache of their own."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest

from s3prl_metaperser.s3prl_stack import compat

compat.apply()

import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def private_cache(tmp_path_factory, monkeypatch):
    """Nothing is read from or written to the user's own cache."""
    monkeypatch.setenv("METAPERSER_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))

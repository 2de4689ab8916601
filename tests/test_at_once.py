"""Work that is shared out over the cores finds what one process finds, and leaves this process as it was."""

from __future__ import annotations

import gc
import sys

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from s3prl_metaperser.storage.at_once import at_once

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="one process does the work where forking is not safe")


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})


def test_what_is_found_comes_in_order_and_as_alone() -> None:
    assert list(at_once(lambda n: n * n, range(20), few=0, chunk=3)) == [n * n for n in range(20)]


def test_each_process_computes_with_one_thread() -> None:
    def threads(n: int) -> set[int]:
        np.linalg.solve(np.eye(3), np.ones(3) * n)
        return {pool["num_threads"] for pool in threadpool_info()}

    with threadpool_limits(2):
        assert max(threads(0)) == 2
        assert set().union(*at_once(threads, [1, 2, 3], few=0)) == {1}


def test_the_collector_is_as_before_even_where_the_work_fails() -> None:
    def fails(n: int) -> None:
        assert gc.get_threshold()[0] > before[0], "rarely, while the work goes on"
        raise ValueError(f"item {n}")

    before = gc.get_threshold()
    with pytest.raises(ValueError, match="item 1"):
        list(at_once(fails, [1, 2], few=0))
    assert gc.get_threshold() == before

"""The end of a process of several."""

import subprocess
import sys

PROGRAM = """
import atexit, os, sys
from torch import distributed
from s3prl_metaperser import parallel

atexit.register(os.abort)  # stands for a backend's thread that meets a finalising interpreter
distributed.init_process_group("gloo", init_method="file://" + sys.argv[1], rank=0, world_size=1)
print("done", end="")
parallel.leave()
"""


def test_a_process_of_several_ends_well_without_the_interpreters_finalisation(tmp_path):
    ended = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path / "store")], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (0, "done"), ended.stderr


def test_the_only_process_goes_on():
    from s3prl_metaperser import parallel

    parallel.leave()

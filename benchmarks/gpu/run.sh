#!/usr/bin/env bash
# The exact adjoint on a GPU, in at most nine minutes, from a bare machine with Python 3.11 and torch: nothing is installed or fetched.
#   bash benchmarks/gpu/run.sh OUT            writes OUT/gpu.json after every part, and OUT/gpu.md
#   bash benchmarks/gpu/run.sh OUT --tiny     seconds on a CPU: does it run?
#   bash benchmarks/gpu/run.sh OUT --small --minutes 30     the same figures on a CPU, a reduced model at K = 8 x 2 s
set -euo pipefail
out=${1:?usage: bash benchmarks/gpu/run.sh OUT [--tiny | --small] [--minutes M] [--gigabytes G] [--only PART ...]}
shift
mkdir -p "$out"
exec "${PYTHON:-python3}" "$(dirname "$0")/measure.py" --out "$out" "$@"

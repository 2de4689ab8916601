#!/usr/bin/env bash
# Everything whose numbers a change of the code must not touch, made anew with the code of this checkout:
#
#   bash benchmarks/reference.sh OUT          the demo grid (170 cells), a tuned cell, cells with -f on a tiny random WavLM, two exported models
#   python benchmarks/same_numbers.py BEFORE AFTER     two such folders, made by two checkouts, compared to the bit
#
# Some six minutes on two cores. OUT must not exist. Thread counts are fixed: the last digit of a -f cell depends on them.
set -euo pipefail
[ $# -eq 1 ] && [ ! -e "$1" ] || { echo "usage: bash benchmarks/reference.sh OUT, a folder that does not exist"; exit 2; }
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)
export METAPERSER_CACHE=$out/cache PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}" OMP_NUM_THREADS=2
python=$here/.venv/bin/python
[ -x "$python" ] || python=$(command -v python3)
run=("$python" "$here/run_downstream.py")
expert=config.downstream_expert

cd "$out"
"$python" -m s3prl_metaperser.cli run "$here/benchmarks/demo.yaml" --results "$out/demo" --jobs 2
"$python" "$here/tests/random_checkpoints.py" wavlm tiny.pt

cell() { # NAME OPTIONS...: train into OUT/more/NAME and evaluate
  local folder="$out/more/$1"
  shift
  "${run[@]}" -d personalized_emotion -m train -p "$folder" --device cpu "$@"
  "${run[@]}" -m evaluate -e "$folder"
}
cell frozen -u fbank_no_cmvn
cell tuned -u fbank_no_cmvn -v Linear-Few -o "$expert.evalrc.protocol=tuned"
few="$expert.metarc.shots=4,,$expert.evalrc.shots=4,,$expert.evalrc.queries=8,,$expert.evalrc.seeds=2,,$expert.evalrc.steps=3"
few="$few,,$expert.evalrc.validation_seeds=1,,$expert.initrc.total_steps=4,,config.runner.total_steps=4,,config.runner.eval_step=2"
few="$few,,config.runner.save_step=2,,$expert.metarc.inner_steps=2,,$expert.tunerc.longest_seconds=2.0"
for system in Meta-PerSER Entire-Few Multi-Few Entire-Sim; do
  cell "f-$system" -u wavlm_local -k tiny.pt -f -v "$system" -o "$few"
done
"$python" -m s3prl_metaperser.cli export more/frozen --out model-frozen
"$python" -m s3prl_metaperser.cli export more/f-Meta-PerSER --out model-f

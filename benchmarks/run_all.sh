#!/usr/bin/env bash
# A grid of the benchmark, then its report.
#
#   bash benchmarks/run_all.sh                                                       the demo grid
#   bash benchmarks/run_all.sh benchmarks/table1.yaml --corpus iemocap --root DIR    the paper's
#
#   bash benchmarks/run_all.sh GRID.yaml --engine snakemake --cores N                many cores and GPUs
#   bash benchmarks/run_all.sh GRID.yaml --engine snakemake --profile slurm          a cluster: docs/grid_snakemake.md
#
# All other options go to `metaperser run` (see its --help): --results DIR, --only 'upstream=hubert_base,scenario=unseen',
# --set OPTION=VALUE, --jobs N, --dry-run, --fail-fast. Finished cells are skipped. The exit status is the number of failed
# cells (at most 99), or 101 if the grid cannot be run or reported. The report is written to RESULTS/report/.
set -euo pipefail

main() { # read as a whole before anything runs: the file may change during a run of days
  here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
  grid="$here/demo.yaml"
  if [ $# -gt 0 ] && [ "${1#-}" = "$1" ]; then
    grid=$1
    shift
  fi

  if [ -n "${VIRTUAL_ENV:-}" ]; then
    python=$VIRTUAL_ENV/bin/python
  elif [ -x .venv/bin/python ]; then
    python=.venv/bin/python
  elif [ -x "$here/../.venv/bin/python" ]; then
    python=$here/../.venv/bin/python
  else
    python=$(command -v python3 || command -v python)
  fi
  metaperser=("$python" -m s3prl_metaperser.cli)
  export PYTHONPATH="$here/..${PYTHONPATH:+:$PYTHONPATH}"

  results='' corpus='' root='' jobs='' engine='' report=yes next=''
  for argument in "$@"; do
    case $next in
      results) results=$argument ;;
      corpus) corpus=$argument ;;
      root) root=$argument ;;
      engine) engine=$argument ;;
    esac
    next=''
    case $argument in
      --results | --corpus | --root) next=${argument#--} ;;
      --results=*) results=${argument#*=} ;;
      --corpus=*) corpus=${argument#*=} ;;
      --root=*) root=${argument#*=} ;;
      --engine) next=engine jobs=chosen ;;
      --engine=*) engine=${argument#*=} jobs=chosen ;;
      --jobs | --jobs=*) jobs=chosen ;;
      --dry-run | --stage | --stage=* | -h | --help) report='' jobs=chosen ;;
    esac
  done

  many=()
  if [ -z "$jobs" ] && [ "$grid" -ef "$here/demo.yaml" ]; then # small cells, one thread each
    many=(--jobs "$("$python" -c 'import os; print(os.cpu_count() or 1)')")
  fi
  status=0
  "${metaperser[@]}" run "$grid" ${many[@]+"${many[@]}"} "$@" || status=$?
  [ "$status" -le 99 ] && [ -n "$report" ] || exit "$status"
  if [ "$engine" = snakemake ] && [ "$status" -eq 0 ]; then
    exit 0 # the report is the last of its jobs; if cells failed, it is made here from the others
  fi

  if [ -z "$results" ]; then
    results=$("$python" -c 'import sys; from s3prl_metaperser.grid.definition import read_grid
print(read_grid(sys.argv[1]).results)' "$grid")
  fi
  evaluated=()
  if [ -n "$corpus" ] && [ -n "$root" ]; then
    evaluated=(--corpus "$corpus" --root "$root")
  fi
  case $results in "~" | "~/"*) results=$HOME${results#\~} ;; esac # as a shell leaves it in --results=~/DIR
  if [ -z "$(find "$results" -name result_test.json -not -path '*/previous-cells/*' 2>/dev/null | head -n 1)" ]; then
    exit "$status"
  fi
  "${metaperser[@]}" report "$results" --out "$results/report" --if-changed ${evaluated[@]+"${evaluated[@]}"} || exit 101
  exit "$status"
}

main "$@"

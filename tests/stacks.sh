#!/usr/bin/env bash
# Does s3prl run on this torch stack? The tests of everything that touches s3prl, on one or several stacks.
#
#   tests/stacks.sh PYTHON...   on these interpreters, e.g. .venv/bin/python; each needs torch, torchaudio, s3prl,
#                               the other requirements in setup.cfg and pytest; this package need not be installed
#   tests/stacks.sh             on three stacks built for it in a temporary folder: the last with everything that
#                               s3prl expects, a CPU-only one whose torchaudio does not fit its torch, and whatever
#                               the package index gives today. Needs the network, about 20 GB and a quarter of an hour
#
#   TORCH_CPU_INDEX             where CPU-only torch is found [https://download.pytorch.org/whl/cpu]
#   STACKS_FOLDER               build there and keep it
#
# Prints one line a stack; the exit status is 0 if all tests passed on all of them.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
tests=("$root"/tests/test_{compat,hub,arguments,exact_batching,s3prl_emotion}.py)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

requirements() { # setup.cfg's install_requires, one a line, without torch and torchaudio
    python3 - "$root/setup.cfg" <<'PYTHON'
import configparser, sys

config = configparser.ConfigParser()
config.read(sys.argv[1])
for line in config["options"]["install_requires"].split("\n"):
    if line.strip() and not line.startswith("torch"):
        print(line.replace(" ", ""))
PYTHON
}

build() { # NAME, then what pip is to install first
    local folder="${STACKS_FOLDER:-$scratch}/$1"
    shift
    python3 -m venv "$folder"
    "$folder/bin/python" -m pip install --quiet "$@" >&2
    "$folder/bin/python" -m pip freeze | grep -iE '^(torch|torchaudio|huggingface[_-]hub|transformers)==' \
        >"$scratch/constraints.txt"
    requirements >"$scratch/requirements.txt"
    "$folder/bin/python" -m pip install --quiet -c "$scratch/constraints.txt" \
        -r "$scratch/requirements.txt" pytest >&2
    echo "$folder/bin/python"
}

versions() {
    "$1" - <<'PYTHON'
from importlib.metadata import version

print("  ".join(f"{name} {version(name)}" for name in ("torch", "torchaudio", "huggingface_hub", "transformers")))
PYTHON
}

pythons=("$@")
if [ ${#pythons[@]} -eq 0 ]; then
    pythons+=("$(build expected 'torch==2.8.*' 'torchaudio==2.8.*' 'huggingface_hub<1' 'transformers<5')")
    pythons+=("$(build cpu --extra-index-url "${TORCH_CPU_INDEX:-https://download.pytorch.org/whl/cpu}" \
        'torch==2.13.*+cpu' 'torchaudio==2.11.*' 'huggingface_hub>=1')")
    pythons+=("$(build newest torch torchaudio)")
fi

status=0
for python in "${pythons[@]}"; do
    log="$scratch/log"
    if (cd "$scratch" && PYTHONPATH="$root" PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1 \
        "$python" -m pytest -q -p no:cacheprovider -c "$root/pyproject.toml" --rootdir "$root" \
        "${tests[@]}" >"$log" 2>&1); then
        verdict=passed
    else
        verdict=FAILED status=1
    fi
    [ "$verdict" = passed ] || cat "$log"
    echo "$verdict  $(versions "$python")  ($(tail -n 1 "$log" | tr -d '='))"
done
exit $status

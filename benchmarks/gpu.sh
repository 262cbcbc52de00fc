#!/usr/bin/env bash
# What this project does on a GPU, on a machine without a network: docs/scaling.md.
#   benchmarks/gpu.sh fetch FOLDER     where pip reaches a registry: the packages that such a machine lacks, as wheels
#   benchmarks/gpu.sh FOLDER           there: installs them aside and prints Markdown, part by part
# GPU_SMALL=1: small and on the CPU, to see that it works. GPU_SECONDS: all of it (580). PYTHON: the interpreter.
set -u
WHEELS=$(realpath "${@: -1}")
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
TOTAL=${GPU_SECONDS:-580}
SLOWER=${GPU_SMALL:+6} # a limit's factor
PACKAGES="escnn open_clip_torch ftfy wcwidth pydantic pydantic-core annotated-types typing-inspection lightning-fabric
    ruamel.yaml dvclive dvc dvc-data dvc-http dvc-objects dvc-render dvc-studio-client atpublic diskcache dpath dulwich
    flatten-dict flufl.lock funcy orjson pygtrie scmrepo sqltrie voluptuous zc.lockfile"

if [ "$1" = fetch ]; then
    exec "$PYTHON" -m pip download --quiet --no-deps --only-binary :all: --dest "$WHEELS" \
        --python-version 3.12 --implementation cp --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 \
        --platform manylinux2014_x86_64 --constraint requirements.txt --constraint requirements-no-deps.txt $PACKAGES
fi

# part SECONDS NAME COMMAND...: at most so long, and no longer than what is left of all; a row says what went wrong
part() {
    local limit=$(($1 * ${SLOWER:-1})) name=$2 left=$((TOTAL - SECONDS)) status
    shift 2
    if [ "$left" -lt 5 ]; then echo "| $name | not begun: the $TOTAL seconds are over |"; return; fi
    timeout --kill-after 5 "$((left < limit ? left : limit))" "$@" 2>"$SITE/stderr"
    status=$?
    if [ $status -eq 124 ] || [ $status -eq 137 ]; then echo "| $name | stopped: its time is up |"
    elif [ $status -ne 0 ]; then echo "| $name | ended with $status: $(grep . "$SITE/stderr" | tail -n 1) |"; fi
}
table() { printf '\n%s\n%s\n' "$1" "$(sed 's/[^|]\+/---/g' <<<"$1")"; }
gpu() { local limit=$1; shift; part "$limit" "$*" "$PYTHON" -m benchmarks.gpu "$@"; }

SITE=$(mktemp -d)
trap 'rm -rf "$SITE"' EXIT
"$PYTHON" -m pip install --quiet --no-index --no-deps --no-compile --target "$SITE" "$WHEELS"/*.whl || exit
export PYTHONPATH="$PWD:$SITE" PYTHONUNBUFFERED=1

table "| machine | |"
gpu 40 machine
table "| tests that need a GPU | |"
part 120 tests "$PYTHON" -m pytest -q -m gpu -p no:cacheprovider tests/test_gpu.py | tail -n 15 | sed 's/.*/| & | |/'
echo; echo "A training step in the paper's setting (ViT-B/16, 417 px, 25 prompts, D = 64, C8), random weights."
table "| formulation | precision | batch | images/s | step: median (range) | TFLOPs a step | of the bf16 peak | memory | first step |"
gpu 80 training ours fp32 bf16
gpu 80 training plain fp32 bf16
gpu 150 training compiled bf16
table "| inference | precision | batch | images/s | a batch: median (range) | memory |"
gpu 60 inference
table "| 640 x 480 JPEG files to axes or centres | batch | pictures/s |"
gpu 60 pictures
table "| stopped and killed | | |"
gpu 150 resume
printf '\nAll of it: %d s.\n' "$SECONDS"

#!/usr/bin/env bash
# dvc==3.67.1, Python 3.11, Linux: two DVC commands in one workspace, as jobs of a cluster would run `dvc repro
# --single-item STAGE` side by side. DVC lets go of its lock while the command of a stage runs.
# Guess: DVC waits for the lock, at the start and when a command is done; the work of a stage is recorded in any case.
# Seen: a command that ends while another DVC holds the lock (here `dvc status`, which hashes a large file) is lost: exit
# code 255, nothing in dvc.lock, and the next `dvc repro` runs it once more. With `dvc --wait-for-lock repro`, an option
# before the subcommand only, it is recorded.
# Output seen:
#   exit code 255, runs 1, recorded 0
#   exit code 0, runs 2, recorded 1
set -euo pipefail
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
cd "$WORK"
python3 -m venv venv
venv/bin/pip install --quiet dvc==3.67.1
export PATH=$WORK/venv/bin:$PATH DVC_NO_ANALYTICS=1
mkdir project && cd project
git init -q && dvc init -q
truncate --size 24G large  # sparse
dvc stage add -q --name other --deps large true
dvc stage add -q --name work --outs out 'echo ran >> runs; (dvc status other > status 2>&1 &); sleep 4; echo done > out'
tell() {
    code=0
    "$@" > log 2>&1 || code=$?
    echo "exit code $code, runs $(wc -l < runs), recorded $(grep -c 'work:' dvc.lock 2> /dev/null || true)" | sed 's/recorded $/recorded 0/'
    while pgrep --full 'dvc status other' > /dev/null; do sleep 1; done
}
{ tell dvc repro --single-item work; tell dvc --wait-for-lock repro --single-item work; } | tee seen
diff seen - <<'S'
exit code 255, runs 1, recorded 0
exit code 0, runs 2, recorded 1
S

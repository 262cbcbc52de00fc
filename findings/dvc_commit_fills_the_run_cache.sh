#!/usr/bin/env bash
# dvc==3.67.1, Python 3.11: `dvc commit --force` of an output that was changed by hand, taken back with Git and
# `dvc checkout --force`.
# Guess: only runs of a command enter the run cache; with dvc.lock and the output as they were, all is as before.
# Seen: the commit has entered the false output into the run cache, under the hashes that the dependencies had then.
# `dvc repro` finds it there, restores it without running the command, and writes it into dvc.lock. Only
# `dvc repro --no-run-cache` computes.
# Output seen:
#   after the first run: 1
#   taken back: 1, and dvc.lock as before
#   dvc repro: by hand
#   dvc repro --no-run-cache: 2
set -euo pipefail
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
cd "$WORK"
python3 -m venv venv
venv/bin/pip install --quiet dvc==3.67.1
export PATH=$WORK/venv/bin:$PATH DVC_NO_ANALYTICS=1
mkdir project && cd project
git init -q && dvc init -q
echo 1 > code
dvc stage add -q --name made --deps code --outs made 'cp code made'
dvc repro -q
cp dvc.lock before
{
    echo "after the first run: $(cat made)"
    echo 2 > code
    rm made && echo 'by hand' > made
    dvc commit --quiet --force
    cp before dvc.lock
    dvc checkout --quiet --force
    echo "taken back: $(cat made), and dvc.lock $(cmp -s before dvc.lock && echo as before)"
    dvc repro --quiet
    echo "dvc repro: $(cat made)"
    cp before dvc.lock
    dvc checkout --quiet --force
    dvc repro --quiet --no-run-cache
    echo "dvc repro --no-run-cache: $(cat made)"
} | tee seen
diff seen - <<'S'
after the first run: 1
taken back: 1, and dvc.lock as before
dvc repro: by hand
dvc repro --no-run-cache: 2
S

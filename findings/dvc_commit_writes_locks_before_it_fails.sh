#!/usr/bin/env bash
# dvc==3.67.1, Python 3.11: `dvc commit --force` without a name, where a second dvc.yaml holds a stage that has never run.
# Guess: a stage that never ran has nothing to commit and is passed over, or all are looked at before a lock is written.
# Seen: the first dvc.lock is rewritten for the changed dependency; then the command ends with exit code 1 as the output
# of the other stage does not exist. Who takes the error for "nothing was done" has a lock that says that the old output
# was made by the new code. `dvc commit --force dvc.yaml` is what was meant.
# Output seen:
#   exit code 1
#   ERROR: failed to commit - output 'other/late' does not exist
#   the lock of the first: changed
#   dvc status of the first: nothing has changed
set -euo pipefail
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
cd "$WORK"
python3 -m venv venv
venv/bin/pip install --quiet dvc==3.67.1
export PATH=$WORK/venv/bin:$PATH DVC_NO_ANALYTICS=1
mkdir -p project/other && cd project
git init -q && dvc init -q
echo 1 > code
dvc stage add -q --name made --deps code --outs made 'cp code made'
(cd other && dvc stage add -q --name late --outs late 'echo late > late')
dvc repro -q dvc.yaml
cp dvc.lock before
echo '1  # a comment' > code
code=0
dvc commit --force > /dev/null 2> errors || code=$?
{
    echo "exit code $code"
    grep '^ERROR' errors
    cmp -s dvc.lock before && echo "the lock of the first: as before" || echo "the lock of the first: changed"
    dvc status --quiet dvc.yaml && echo "dvc status of the first: nothing has changed"
} | tee seen
diff seen - <<'S'
exit code 1
ERROR: failed to commit - output 'other/late' does not exist
the lock of the first: changed
dvc status of the first: nothing has changed
S

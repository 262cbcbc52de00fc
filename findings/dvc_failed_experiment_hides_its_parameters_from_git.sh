#!/usr/bin/env bash
# dvc==3.67.1 (pygit2 1.21.0), git 2.39.5, Python 3.11, ext4.
# Guess: after a `dvc exp run -S a=2` whose stage fails, params.yaml holds the new value, Git calls the file modified, and
# `git checkout` takes it back.
# Seen: where the new value is as long as the old one, Git calls the working tree clean, and `git checkout` and
# `git reset --hard` leave the value, so that the next run has it, too. DVC writes params.yaml, stashes it and writes it
# again within one second; the index, written by libgit2, keeps the time and size of the committed content. libgit2 tells
# both files apart by nanoseconds, Git by seconds and size. ruamel.yaml helps: it keeps the column of a comment after the
# value, so that even a longer word makes no larger file. A command that does not ask the index works:
# `git show HEAD:params.yaml > params.yaml`. Seven of eight times; else a second began in between.
# Output seen:
#   as long: a: 2, status []
#   after git checkout: a: 2
#   after git show: a: 1
#   longer: a: 22, status [ M params.yaml]
#   longer, before a comment: b: longer  # word, status []
set -euo pipefail
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
cd "$WORK"
python3 -m venv venv
venv/bin/pip install --quiet dvc==3.67.1 pygit2==1.21.0
export PATH=$WORK/venv/bin:$PATH DVC_NO_ANALYTICS=1
mkdir project && cd project
git init -q && dvc init -q
git config user.name somebody && git config user.email somebody@example.org
printf 'a: 1\nb: word    # word\n' > params.yaml
dvc stage add -q --name fails -p a,b --outs out 'sleep 2; exit 1'
git add --all && git commit -qm committed
back() { git show HEAD:params.yaml > params.yaml; }
experiment() {  # again where a second began in between, which Git notices
    for _ in 1 2 3 4 5 6; do
        back
        dvc exp run -q -S "$1" > ../printed 2>&1 && exit 1
        [ -n "$(git status --porcelain)" ] || return 0
    done
}
{
    experiment a=2
    echo "as long: $(head -1 params.yaml), status [$(git status --porcelain)]"
    git checkout -q -- params.yaml
    echo "after git checkout: $(head -1 params.yaml)"
    back
    echo "after git show: $(head -1 params.yaml)"
    experiment a=22
    echo "longer: $(head -1 params.yaml), status [$(git status --porcelain)]"
    experiment b=longer
    echo "longer, before a comment: $(tail -1 params.yaml), status [$(git status --porcelain)]"
} | tee ../seen
diff ../seen - <<'S'
as long: a: 2, status []
after git checkout: a: 2
after git show: a: 1
longer: a: 22, status [ M params.yaml]
longer, before a comment: b: longer  # word, status []
S

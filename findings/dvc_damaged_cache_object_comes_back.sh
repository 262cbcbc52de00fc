#!/usr/bin/env bash
# dvc==3.67.1, Python 3.11, ext4: cache.type hardlink, and an object of the cache that was damaged (a bad disk, a program
# that wrote through the link) and is read-only, as DVC leaves it.
# Guess: `dvc repro --force` runs the stage, sees that the object does not have the hash of its name, and stores the new
# output. Seen: the stage runs, writes the right file, and DVC then replaces it by a link to the damaged object, with exit
# code 0 and nothing said: it takes a read-only object for whole. `chmod u+w` alone does not help: DVC hashes an object
# only if its time has changed as well.
# Output seen:
#   after --force: aaxa
#   after chmod and --force: aaxa
#   after chmod, touch and --force: aaaa
set -euo pipefail
WORK=$(mktemp -d)
trap 'chmod -R u+w "$WORK"; rm -rf "$WORK"' EXIT
cd "$WORK"
python3 -m venv venv
venv/bin/pip install --quiet dvc==3.67.1
export PATH=$WORK/venv/bin:$PATH DVC_NO_ANALYTICS=1
mkdir project && cd project
git init -q && dvc init -q && dvc config cache.type hardlink
dvc stage add -q --name make --outs out 'mkdir -p out && printf aaaa > out/file'
dvc repro -q
object=$(find .dvc/cache/files/md5 -type f ! -name '*.dir')
damage() { chmod u+w "$object"; touch --reference="$object" time; printf aaxa > "$object"; touch --reference=time "$object"; chmod 444 "$object"; }
damage
dvc repro -q --force; echo "after --force: $(cat out/file)" | tee seen
chmod u+w "$object"
dvc repro -q --force; echo "after chmod and --force: $(cat out/file)" | tee -a seen
object=$(find .dvc/cache/files/md5 -type f ! -name '*.dir')
chmod u+w "$object"; touch "$object"
dvc repro -q --force; echo "after chmod, touch and --force: $(cat out/file)" | tee -a seen
diff seen - <<'S'
after --force: aaxa
after chmod and --force: aaxa
after chmod, touch and --force: aaaa
S

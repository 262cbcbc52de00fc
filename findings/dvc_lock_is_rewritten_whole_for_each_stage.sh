#!/usr/bin/env bash
# dvc==3.67.1 with ruamel.yaml 0.19.1 and its C library ruamel.yaml.clib 0.2.15, Python 3.11: `dvc repro` of many cells.
# Guess: DVC's own share of a run grows with the number of cells, some hundredths of a second each: the lock file is read
# by the C loader, and a cell adds its entry.
# Seen: for each cell that ran, DVC parses the whole dvc.lock with ruamel's round-trip loader, which is pure Python, and
# writes it anew. Three times as many cells make it parse nearly ten times as many lines. On an AMD EPYC that is 0.4 s a cell
# for a lock file of 2,900 lines, 2.9 s for one of 19,108 (96 cells with 30 parameters each).
# Output seen:
#   8 cells: 7 times, 826 lines
#   24 cells: 23 times, 8050 lines
#   by the C loader: 0 times
set -euo pipefail
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
cd "$WORK"
python3 -m venv venv
venv/bin/pip install --quiet dvc==3.67.1 ruamel.yaml==0.19.1 ruamel.yaml.clib==0.2.15
export PATH=$WORK/venv/bin:$PATH DVC_NO_ANALYTICS=1
cat > count.py <<'P'
"""Run `dvc repro`, and count what is parsed to be updated, and by which loader."""
import sys

import dvc.utils.serialize._yaml as serialize
import ruamel.yaml
from dvc.cli import main

calls, lines, fast = 0, 0, 0
parse, load = serialize.parse_yaml_for_update, ruamel.yaml.YAML.load


def counted(text, path):
    global calls, lines
    calls, lines = calls + 1, lines + text.count("\n")
    return parse(text, path)


def loaded(self, stream):
    global fast
    fast += sys._getframe(1).f_code.co_name == "parse_yaml_for_update" and "clib" in str(self.Parser)
    return load(self, stream)


serialize.parse_yaml_for_update, ruamel.yaml.YAML.load = counted, loaded
status = main(["repro", "--quiet"])
print(f"{sys.argv[1]} cells: {calls} times, {lines} lines")
print(f"by the C loader: {fast} times", file=open("../loader", "w"))
sys.exit(status)
P
for cells in 8 24; do
    mkdir "$cells" && cd "$cells"
    git init -q && dvc init -q
    for key in $(seq 20); do echo "key$key: 1" >> params.yaml; done
    params=$(seq --separator , --format 'key%g' 20)
    for cell in $(seq "$cells"); do
        dvc stage add -q --name "cell$cell" --params "$params" --outs "out$cell" "echo $cell > out$cell"
    done
    python ../count.py "$cells" | tee -a ../seen
    cd ..
done
tee -a seen < loader
diff seen - <<'S'
8 cells: 7 times, 826 lines
24 cells: 23 times, 8050 lines
by the C loader: 0 times
S

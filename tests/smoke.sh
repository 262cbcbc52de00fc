#!/usr/bin/env bash
# The whole graph with few images and a tiny model, in a temporary clone; then once more, which must do nothing.
set -euo pipefail
project=$(git rev-parse --show-toplevel)
clone=$(mktemp -d)
trap 'rm -rf "$clone"' EXIT
git clone --quiet "$project" "$clone/project"
cd "$clone/project"
python -m tests.small params.yaml
dvc repro
dvc repro | tee "$clone/again"
grep -q 'Data and pipelines are up to date.' "$clone/again"
cat report/f1.md

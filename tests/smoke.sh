#!/usr/bin/env bash
# The whole graph with few images and a tiny model, in a temporary clone; then once more, which must do nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
repository=$(git rev-parse --show-toplevel) folder=$(git rev-parse --show-prefix)  # which may lie below the root
clone=$(mktemp -d)
trap 'rm -rf "$clone"' EXIT
git clone --quiet "$repository" "$clone/repository"
cd "$clone/repository/$folder"
python -m tests.small params.yaml
dvc repro
dvc repro | tee "$clone/again"
grep -q 'Data and pipelines are up to date.' "$clone/again"
cat report/f1.md

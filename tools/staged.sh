#!/usr/bin/env bash
# Run a command in a throwaway copy of the tree, at .../ansible_collections/godel/postgres_runbook:
# ansible-test refuses any other place, and the others would walk through .venv.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
unset GIT_DIR GIT_INDEX_FILE GIT_WORK_TREE  # a commit hook sets them; they would name the wrong repository

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
tree=$stage/ansible_collections/godel/postgres_runbook
mkdir -p "$tree"

cd "$root"
# The checkout may belong to another user, as in a container: reading it is safe.
git -c safe.directory='*' ls-files -z --cached --others --exclude-standard |
    while IFS= read -r -d '' file; do
        [[ ! -e $file ]] || printf '%s\0' "$file"
    done |
    xargs -0 cp --parents -t "$tree"

cd "$tree"
git init -q
git add --all

# The tools' caches stay in .venv, not in the user's home.
export VIRTUAL_ENV=$root/.venv HOME=$root/.venv/home PATH=$root/.venv/bin:$PATH
export ANSIBLE_COLLECTIONS_PATH=$stage
mkdir -p "$HOME"
"$@"

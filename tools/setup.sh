#!/usr/bin/env bash
# Build .venv: the tools, the tests' packages, and this checkout under the name that Ansible knows it by.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usable() {
    "$1" -c 'import sys, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

# A named interpreter is taken as it is; otherwise the first that works (a shim on the path may not).
find_python() {
    local python
    for python in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        usable "$python" && echo "$python" && return
    done
    echo "No usable Python: 3.11, 3.12 or 3.13 with its venv module is needed (on Debian and Ubuntu: python3-venv)." >&2
    echo "If it is not on the search path, name it: make setup PYTHON=/path/to/python3.12" >&2
    return 1
}

if ! usable .venv/bin/python; then
    python=$(find_python)
    rm -rf .venv/bin .venv/include .venv/lib .venv/lib64 .venv/cores  # and not the caches beside them
    "$python" -m venv .venv
fi
# pip says nothing for a minute or two while it installs: say every few seconds what it is at.
tell() {
    local collected installed
    while sleep 5; do
        collected=$(grep -c '^Collecting' "$log" || true)
        installed=$(find .venv/lib -maxdepth 3 -name '*.dist-info' 2>/dev/null | wc -l)
        if grep -q '^Installing collected' "$log"; then
            echo "  $SECONDS s: $installed of about $((collected + 2)) packages are installed"
        else
            echo "  $SECONDS s: looking up packages ($collected to install)"
        fi
    done
}

echo "Installing what requirements-dev.txt names into .venv. The first time takes a minute or two."
log=$(mktemp)
tell &
ticker=$!
trap 'kill "$ticker" 2>/dev/null || true; rm -f "$log"' EXIT
.venv/bin/python -m pip install --progress-bar off --disable-pip-version-check --requirement requirements-dev.txt >"$log"

# The checkout may lie anywhere; Ansible finds a collection only under ansible_collections/<namespace>/<name>.
mkdir -p .venv/collections/ansible_collections/godel
ln -sfn ../../../.. .venv/collections/ansible_collections/godel/postgres_runbook

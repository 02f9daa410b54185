#!/usr/bin/env bash
# Run the tests under another ansible-core, in an environment of its own: test_core.sh 2.16 [PYTEST ARGUMENT...]
set -euo pipefail
core=$1
shift
venv=.venv/cores/tests-$core
if [[ ! -e $venv/.ready || requirements-dev.txt -nt $venv/.ready ]]; then
    .venv/bin/python -m venv --clear "$venv"
    # The first two paragraphs are what tests need. The package ansible 9 brings 2.16, 10 brings 2.17.
    awk -v RS= 'NR <= 2' requirements-dev.txt | sed "s/^ansible==.*/ansible==$((${core#2.} - 7)).*/" |
        "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement /dev/stdin
    touch "$venv/.ready"
fi
PATH=$PWD/$venv/bin:$PATH exec "$venv/bin/pytest" "$@"

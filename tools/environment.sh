#!/usr/bin/env bash
# The execution environment's files, inside tools/staged.sh: they must be found, and say what requirements.txt says.
set -euo pipefail

wanted=$(grep -vE '^(#|ansible-core)' requirements.txt)
found=$(ansible-builder introspect "$ANSIBLE_COLLECTIONS_PATH" | sed -n "s/^- '\(.*[<>=].*\)  # from collection.*/\1/p")
diff <(sort <<<"$wanted") <(sort <<<"$found") || {
    echo "requirements.txt (<) and what ansible-builder finds in meta/execution-environment.yml (>) differ." >&2
    exit 1
}

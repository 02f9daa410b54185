#!/usr/bin/env bash
# Galaxy's importer on the built collection, inside tools/staged.sh. It exits 0 in spite of warnings; here they fail.
set -euo pipefail

export GALAXY_IMPORTER_RUN_ANSIBLE_LINT=false  # a gate of its own
ansible-galaxy collection build --output-path "$ANSIBLE_COLLECTIONS_PATH"
output=$(python -m galaxy_importer.main "$ANSIBLE_COLLECTIONS_PATH"/godel-postgres_runbook-*.tar.gz 2>&1) || {
    echo "$output"
    exit 1
}
echo "$output"
! grep -qE '^(WARNING|ERROR)' <<<"$output"

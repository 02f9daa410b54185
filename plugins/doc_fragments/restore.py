# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options that restore_procedure shares with the modules it runs."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  backup:
    description:
      - V(latest) is the newest backup whose verification found it V(verified). Or the id of a backup in the catalog, or the absolute path
        of a dump not taken by this collection, which needs O(accept_unproven).
      - Such a dump is recognized by its SHA-256, not by its path. It is read for that.
    type: str
    default: latest
  force:
    description:
      - Restore even if production came from this backup, or a stage of it exists.
      - With V(true), a stage that is loaded and not yet proven is used only if a run with V(true) loaded it.
    type: bool
    default: false
  jobs:
    description:
      - How many tables and indexes to restore, and to compare, at the same time, 1 to 1000.
      - By default, the number of CPUs where PostgreSQL's programs run, at most 4, because production works beside it.
    type: int
  nice:
    description: How much to lower the priority of C(pg_restore), 0 to 19.
    type: int
    default: 0
  max_replica_lag:
    description:
      - How far replicas may be behind, for example V(64MB). The backup is then loaded in pieces, with a wait of up to an hour between
        them. One table is one piece.
      - By default, the load does not wait for replicas.
    type: str
  analyze:
    description: Whether to gather statistics, so that production is fast from the first query.
    type: bool
    default: true
  smoke_queries:
    description: Queries of the restored database, each in a read-only session. A wrong answer fails the restore.
    type: list
    elements: dict
    default: []
    suboptions:
      query:
        description: One statement. It has to return a row.
        type: str
        required: true
      expect:
        description: The expected text of the first column of the first row. By default, any text will do.
        type: str
  accept:
    description:
      - Parts that the restored database may lack.
      - V(definitions) accepts a backup that is V(incomplete). All of its rows and sequences are there, but not all definitions,
        comments or privileges. The results list what it lacks, and so does the mark of the database.
      - Without it such a backup is refused, before it is loaded if its last verification found that.
    type: list
    elements: str
    choices: [definitions]
    default: []
  accept_unproven:
    description:
      - Whether to accept a backup that cannot be proven, because this collection did not take it, because it has no fingerprint, or
        because this server cannot make a database like the source. One that is proven to be different is never accepted.
    type: bool
    default: false
  keep_failed:
    description: Whether to keep a stage that failed, for inspection. The next run for this database drops it.
    type: bool
    default: false
  scratch_dir:
    description: Directory for lists and logs of the programs.
    type: path
    default: /var/tmp
  check_space:
    description: Whether to refuse when a second copy of the database will probably not fit.
    type: bool
    default: true
"""

    SWAP = r"""
options:
  keep_old:
    description: How long to keep what is replaced, from now, for example V(7d). M(godel.postgres_runbook.pg_database_discard) goes by it.
    type: str
    default: 7d
  grace:
    description: How long running transactions may go on before their sessions are terminated.
    type: str
    default: 5s
"""

    ALLOW = r"""
options:
  allow:
    description:
      - Objects of the database in production that the swap may break, logical replication slots or subscriptions. By default, a database
        that has one is not replaced.
      - M(godel.postgres_runbook.pg_restore) checks this before it loads the backup, M(godel.postgres_runbook.pg_database_swap) before
        the swap.
    type: list
    elements: str
    choices: [replication_slot, subscription]
    default: []
"""

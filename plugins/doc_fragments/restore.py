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
      - V(latest) restores the newest backup with the verdict V(verified). To restore another backup, set its ID, or the absolute path of a
        dump not taken by this collection. Such a dump needs O(accept_unproven).
      - The module reads the dump and recognizes it by its SHA-256, not by its path.
    type: str
    default: latest
  force:
    description:
      - Whether to restore even if the database in production already came from this backup, or if a staged copy of the backup exists.
      - With V(true), a staged copy that is loaded but not yet verified is used only if a run with V(true) loaded it.
    type: bool
    default: false
  jobs:
    description:
      - The number of tables and indexes to restore, and to compare, at the same time, 1 to 1000.
      - The default is the number of CPUs where PostgreSQL's programs run, but at most 4, because production runs on the same server.
    type: int
  nice:
    description: How much to lower the priority of C(pg_restore), 0 to 19.
    type: int
    default: 0
  max_replica_lag:
    description:
      - How far replicas may be behind, for example V(64MB). The backup is then loaded in pieces; one table is one piece. Before
        the next piece, the load waits up to one hour until the replicas have caught up.
      - By default, the load does not wait for replicas.
    type: str
  analyze:
    description: Whether to run C(ANALYZE) on the restored database, so that queries have good plans from the start.
    type: bool
    default: true
  smoke_queries:
    description: Queries to run in the restored database before the swap, in a read-only session. A wrong result fails the restore.
    type: list
    elements: dict
    default: []
    suboptions:
      query:
        description: One statement. It must return at least one row.
        type: str
        required: true
      expect:
        description: The expected value of the first column of the first row, as text. By default, any value is accepted.
        type: str
  accept:
    description:
      - Parts that the restored database may lack.
      - V(definitions) accepts a backup with the verdict V(incomplete). It has all rows and sequences of its source, but not all definitions,
        comments or privileges. The result and the mark of the database list what is missing.
      - By default, such a backup is refused. If its last verification had this verdict, it is refused before the load.
    type: list
    elements: str
    choices: [definitions]
    default: []
  accept_unproven:
    description:
      - Whether to accept a backup that cannot be verified. The reason may be that this collection did not take it, that it has no
        fingerprint, or that this server cannot create a database with the settings of the source.
      - A backup with the verdict V(failed) is never accepted.
    type: bool
    default: false
  keep_failed:
    description: Whether to keep a staged copy that failed, for inspection. The next run for this database drops it.
    type: bool
    default: false
  scratch_dir:
    description: Directory for temporary files and logs of PostgreSQL's programs.
    type: path
    default: /var/tmp
  check_space:
    description: Whether to fail, before anything is loaded, when a second copy of the database will probably not fit.
    type: bool
    default: true
"""

    SWAP = r"""
options:
  keep_old:
    description: How long to keep the replaced database, for example V(7d). M(godel.postgres_runbook.pg_database_discard) drops it after that.
    type: str
    default: 7d
  grace:
    description: How long running transactions may continue before their sessions are terminated.
    type: str
    default: 5s
"""

    ALLOW = r"""
options:
  allow:
    description:
      - Objects of the database in production that the swap may break. By default, a database that has a logical replication slot or a
        subscription is not replaced.
      - M(godel.postgres_runbook.pg_restore) checks this before it loads the backup, M(godel.postgres_runbook.pg_database_swap) before
        the swap.
    type: list
    elements: str
    choices: [replication_slot, subscription]
    default: []
"""

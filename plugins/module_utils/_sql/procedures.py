# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SQL that recognises sessions of running procedures: those of this collection, and of pg_dump and its siblings.

A session that dumps a database is idle in a transaction for hours, or busy with one COPY, and others wait for its locks.
It looks like a forgotten session, and must not be ended like one.
"""

from __future__ import annotations

# Programs that take backups, by the application_name that they give themselves. pg_receivewal and Barman's receiver are
# not among them: they stream for good, as a replica does.
# https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-FALLBACK-APPLICATION-NAME
_BACKUPS = "^(pg_dump|pg_dumpall|pg_basebackup|pg_back|pg_probackup|pg_rman|pgBackRest|wal-g|barman|barman_(streaming_)?backup)( |$)"

# The kind of procedure that a row `a` of pg_stat_activity belongs to; null for all other sessions. Sessions of this
# collection are named `pg_runbook backup`, and those of programs under it `pg_runbook backup (pg_dump)`. The text of a
# COPY is that of pg_dump (dumpTableData_copy in pg_dump.c), which PGAPPNAME may have given any name.
PROCEDURE = f"""CASE
        WHEN a.application_name ~ '^pg_runbook( |,|$)'
            THEN coalesce(pg_catalog.substring(a.application_name, '^pg_runbook ([a-z ]*[a-z])'), 'procedure')
        WHEN a.application_name ~ '{_BACKUPS}' THEN 'backup'
        WHEN a.application_name = 'pg_restore' THEN 'restore'
        WHEN a.application_name = 'pg_repack' THEN 'rewrite'
        WHEN a.state <> 'idle' AND a.query LIKE 'COPY %% TO stdout;' THEN 'backup'
        WHEN a.backend_type = 'walsender'
             AND EXISTS (SELECT FROM pg_catalog.pg_stat_progress_basebackup b WHERE b.pid = a.pid) THEN 'backup' END"""

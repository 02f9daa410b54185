# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of every module that stops long work at a safe point when somebody else would suffer."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  max_replica_lag:
    description:
      - How far a replica may be behind, as a duration (V(30s)) or as WAL (V(64MB)). Beyond it the work stops at a safe point, and what
        is left is reported; another run goes on from there. So with the other brakes.
      - It needs the role C(pg_monitor), as O(max_wal_size), O(max_transaction_age) and O(min_free) do.
    type: str
  max_wal_size:
    description: The size that C(pg_wal) may have, for example V(10GB).
    type: str
  max_transaction_age:
    description: How old the transaction of another session in this database may be, or a prepared transaction, for example V(30m).
    type: str
  min_free:
    description:
      - What has to stay free where the server keeps its data, its WAL and its tablespaces, for example V(20GB) or V(10%).
      - Only where the directories of the server can be seen, that is on its own host as C(root) or as its account, or in its pod.
    type: str
  window:
    description:
      - The maintenance window. While it is closed nothing is done, and the task fails and says when it opens. At its end the work
        stops.
      - In check mode a closed window is only reported.
    type: dict
    suboptions:
      days:
        description: On which days it opens. Every day when it is left out.
        type: list
        elements: str
        choices: [mon, tue, wed, thu, fri, sat, sun]
      start:
        description: When it opens, for example V("22:00"), with the quotes.
        type: str
        required: true
      end:
        description: When it closes, on the next day if it is not after O(window.start).
        type: str
        required: true
      timezone:
        description: Whose clocks count, a name of the IANA database such as V(Europe/Berlin).
        type: str
        default: UTC
"""

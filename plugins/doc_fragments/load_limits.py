# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of every module that stops long work at a safe point when the server or its standbys are under load."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  max_replica_lag:
    description:
      - How far a standby may be behind, as a duration (V(30s)) or as WAL (V(64MB)). Beyond this limit the work stops at a safe point, and
        RV(left) lists what was not done. The next run continues from there. The other limits behave the same way.
      - This option needs the role C(pg_monitor), as do O(max_wal_size), O(max_transaction_age) and O(min_free).
    type: str
  max_wal_size:
    description: The size that C(pg_wal) may reach, for example V(10GB).
    type: str
  max_transaction_age:
    description: How old a transaction of another session in this database may be, or a prepared transaction, for example V(30m).
    type: str
  min_free:
    description:
      - The space to keep free where the server has its data, its WAL and its tablespaces, for example V(20GB) or V(10%).
      - This works only if the module can see the server's directories, that is, on the server's host as C(root) or as the server's account,
        or in its pod.
    type: str
  window:
    description:
      - The maintenance window. While it is closed, nothing is done, and the task fails with a message that says when it opens. At its end
        the work stops.
      - In check mode a closed window is only reported.
    type: dict
    suboptions:
      days:
        description: The days on which the window opens. The default is every day.
        type: list
        elements: str
        choices: [mon, tue, wed, thu, fri, sat, sun]
      start:
        description: When the window opens, for example V("22:00"), with the quotes.
        type: str
        required: true
      end:
        description: When the window closes, for example V("05:00"). It closes on the next day if this is not after O(window.start).
        type: str
        required: true
      timezone:
        description: The time zone of O(window.start) and O(window.end), a name of the IANA database such as V(Europe/Berlin).
        type: str
        default: UTC
"""

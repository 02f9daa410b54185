#!/usr/bin/python
# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: restore_procedure
short_description: Restore a PostgreSQL database, or roll the restore back, while its application is stopped
version_added: 0.1.0
description:
  - With O(state=restored), restores a backup next to production and verifies it (M(godel.postgres_runbook.pg_restore)), stops the application,
    swaps the databases (M(godel.postgres_runbook.pg_database_swap)), starts the application, and checks its health.
  - If a step fails, the steps before it are undone in reverse order. If the health check fails, the application is stopped, the previous
    database is swapped back, and the application is started and checked again. The task then fails with a message that names the failure,
    the database that is in production, and the state of the application. An undo that fails is added to the message and does not
    keep the others from running.
  - With O(state=rolled_back), swaps the previous database back, with the same steps before and after the swap. If the health check fails
    after that, the databases are not swapped again.
  - If there is nothing to swap, an application that an earlier run stopped is started.
  - An interrupted run undoes nothing. The next run continues from there, also from another controller, because the state is kept in the
    server and in the Kubernetes cluster. The documentation of the modules describes this state.
  - Each step writes a line to the standard error of C(ansible-playbook) when it begins.
author:
  - The godel.postgres_runbook authors (@godel)
options:
  state:
    description: V(restored) restores a backup, V(rolled_back) swaps the previous database back.
    type: str
    choices: [restored, rolled_back]
    required: true
  backup_dir:
    description: Absolute path of the directory that holds the backups of all databases, the catalog. Required with O(state=restored).
    type: path
  safety_backup:
    description: Whether to take a backup of the current database before the application is stopped.
    type: bool
    default: false
  application:
    description:
      - The application to stop before the swap, and to start afterwards. Without it, nothing is stopped, and the swap terminates its
        sessions.
      - O(application.namespace) and O(application.workload) select a workload to scale to 0 (M(godel.postgres_runbook.workload_scale)). It is
        in the cluster of O(kubernetes), unless other options here select a different one.
      - O(application.stop_command) and O(application.start_command) run on the managed host.
    type: dict
    suboptions:
      namespace:
        description: Namespace of the workload. Required with O(application.workload).
        type: str
      workload:
        description: C(deployment/NAME) or C(statefulset/NAME). Required with O(application.namespace).
        type: str
      timeout:
        description: How long its pods may take to end, or to become ready.
        type: str
        default: 5m
      stop_command:
        description: A program and its arguments that stop the application.
        type: list
        elements: str
      start_command:
        description:
          - A program and its arguments that start the application. It must also succeed when the application is already running, because it may
            run again when there is nothing to swap.
        type: list
        elements: str
      kubeconfig:
        description: Path of a kubeconfig, or its content as a dictionary.
        type: raw
      context:
        description: Context of the kubeconfig.
        type: str
      host:
        description: URL of the API server.
        type: str
      api_key:
        description: Token to log in with.
        type: str
      ca_cert:
        description: File with the certificates of the authorities that may have signed the API server's certificate.
        type: path
        aliases: [ssl_ca_cert]
      client_cert:
        description: File with a client's certificate.
        type: path
        aliases: [cert_file]
      client_key:
        description: File with the client's private key.
        type: path
        aliases: [key_file]
      validate_certs:
        description: Whether to check the API server's certificate.
        type: bool
        aliases: [verify_ssl]
      proxy:
        description: URL of an HTTP proxy on the way to the API server.
        type: str
      no_proxy:
        description: Hosts, separated by commas, that are reached without the proxy.
        type: str
  application_down:
    description: Whether the application is down on purpose before the restore, so that O(health_url) need not answer then.
    type: bool
    default: false
  health_url:
    description:
      - URL of the application's health check, requested from the managed host. By default, the health is not checked.
      - The host name of the URL must resolve before anything is done. A restore also requires an answer, with any status, unless
        O(application_down) is set or an earlier run has stopped the application.
    type: str
  health_status:
    description: The HTTP status codes that a healthy application returns.
    type: list
    elements: int
    default: [200]
  health_body:
    description: Regular expression that must match in the body of the response. By default, any response is accepted.
    type: str
  health_retries:
    description: How many times to repeat a health check that fails.
    type: int
    default: 30
  health_delay_s:
    description: Seconds to wait before each repetition.
    type: int
    default: 2
extends_documentation_fragment:
  - godel.postgres_runbook.restore
  - godel.postgres_runbook.restore.swap
  - godel.postgres_runbook.restore.allow
  - godel.postgres_runbook.connection
  - godel.postgres_runbook.database
  - godel.postgres_runbook.programs
  - godel.postgres_runbook.kubernetes
  - godel.postgres_runbook.attributes
  - godel.postgres_runbook.attributes.action
notes:
  - The login must be a superuser.
  - The modules that it runs get their own C(module_defaults), too.
seealso:
  - module: godel.postgres_runbook.pg_restore
  - module: godel.postgres_runbook.pg_database_swap
  - module: godel.postgres_runbook.workload_scale
"""

EXAMPLES = r"""
- name: Restore the newest verified backup
  godel.postgres_runbook.restore_procedure:
    state: restored
    db: godel_production
    backup_dir: /backups
    application:
      stop_command: [systemctl, stop, godel]
      start_command: [systemctl, start, godel]
    health_url: http://localhost:7373/health
  become: true
  become_user: postgres

- name: Swap the previous database back
  godel.postgres_runbook.restore_procedure:
    state: rolled_back
    db: godel_production
    application:
      namespace: godel
      workload: deployment/godel
"""

RETURN = r"""
swap:
  description: The swap of a restore.
  returned: with O(state=restored)
  type: dict
  contains:
    downtime_s:
      description: The time in seconds during which no session could connect to the database; null if nothing was swapped.
      type: float
    replaced:
      description: The name under which the previous database is kept; null if nothing was replaced, or it was swapped back.
      type: str
    attempts:
      description: The number of attempts; null if nothing was swapped.
      type: int
    ended_sessions:
      description: The number of terminated sessions.
      type: int
stage:
  description: As M(godel.postgres_runbook.pg_restore) returns it, with all of its other return values.
  returned: with O(state=restored)
  type: dict
downtime_s:
  description: As M(godel.postgres_runbook.pg_database_swap) returns it, with all of its other return values.
  returned: with O(state=rolled_back), when databases were swapped
  type: float
msg:
  description: The work that was done. After a failure, what failed, which database is in production, and the state of the application.
  returned: always
  type: str
"""

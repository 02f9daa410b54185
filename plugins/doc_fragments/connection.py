# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of every module that talks to a server."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  login_host:
    description:
      - Host name or address of the server, as seen from where the module runs, for example V(db.example.com). Empty means the default Unix
        socket.
    type: str
    default: ""
    aliases: [host]
  login_port:
    description: Port of the server.
    type: int
    default: 5432
    aliases: [port]
  login_user:
    description: Role to log in as. It must be allowed to read everything that the task needs.
    type: str
    default: postgres
    aliases: [login]
  login_password:
    description: Password of the role. Programs receive it in their environment, never as an argument. Keep it in Ansible Vault.
    type: str
    default: ""
  login_unix_socket:
    description: Directory of the server's Unix socket, for example V(/var/run/postgresql). It takes precedence over O(login_host).
    type: path
    default: ""
    aliases: [unix_socket]
  ssl_mode:
    description: Whether the connection is encrypted, and how strictly the server's certificate is checked. V(prefer) encrypts if the server
      supports it, and checks nothing.
    type: str
    default: prefer
    choices: [allow, disable, prefer, require, verify-ca, verify-full]
  ca_cert:
    description: File with the certificates of the authorities (CA) that the server's certificate is checked against.
    type: path
    aliases: [ssl_rootcert]
  ssl_cert:
    description: File with the client's certificate.
    type: path
  ssl_key:
    description: File with the client's private key.
    type: path
  connect_params:
    description:
      - Additional libpq parameters, for example C(connect_timeout). They override the options above.
      - They are listed at U(https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS).
    type: dict
    default: {}
requirements:
  - psycopg2 (Python library, for example the package psycopg2-binary)
"""

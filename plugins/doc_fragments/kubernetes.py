# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of every module that can work in a pod."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  kubernetes:
    description:
      - The pod to work in, as with C(kubectl exec). The host of the task, which is usually the controller, only needs access to the API
        server. By default the module works on the host of the task.
      - All paths are then paths in the container, and the server is the one in the pod.
      - The options are named as in kubernetes.core. Options that are left out are taken from the pod that the module runs in, or from the
        kubeconfig.
    type: dict
    suboptions:
      namespace:
        description: Namespace of the workload.
        type: str
        required: true
      workload:
        description:
          - The workload of the server, as C(deployment/NAME), C(statefulset/NAME) or C(pod/NAME), or a label selector such as
            C(app=postgres).
          - It must have exactly one ready pod.
        type: str
        required: true
      container:
        description: Name of the container. It can be left out if the pod has only one.
        type: str
      kubeconfig:
        description: Path of a kubeconfig, or its content as a dictionary.
        type: raw
      context:
        description: Name of the context in the kubeconfig.
        type: str
      host:
        description: URL of the API server, for example V(https://k8s.example.com:6443).
        type: str
      api_key:
        description: Token to log in with.
        type: str
      ca_cert:
        description: File with the certificates of the authorities (CA) that the API server's certificate is checked against.
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
        description: URL of an HTTP proxy for connections to the API server.
        type: str
      no_proxy:
        description: Hosts, separated by commas, to connect to without the proxy.
        type: str
requirements:
  - kubernetes (Python library), when O(kubernetes) is used
"""

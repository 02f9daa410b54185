"""kubectl works against the stand-in: what the runbook does with it, and what applies our manifests."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.standin import Image, Standin, postgres_image
from tests.support.workspace import workspace

KUBECTL = shutil.which("kubectl")
pytestmark = pytest.mark.skipif(KUBECTL is None, reason="kubectl is not on this machine: nothing of it is tested")

WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: c, image: "lab/web:1"}]
"""
POSTGRES = """
apiVersion: v1
kind: Secret
metadata: {name: godel-db}
stringData: {POSTGRES_USER: godel, POSTGRES_PASSWORD: dummy, POSTGRES_DB: godel_production}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: postgres, labels: {app: postgres}}
spec:
  serviceName: postgres
  selector: {matchLabels: {app: postgres}}
  template:
    metadata: {labels: {app: postgres}}
    spec:
      containers:
        - name: postgres
          image: lab/postgres:15
          envFrom: [{secretRef: {name: godel-db}}]
          volumeMounts: [{name: data, mountPath: /data}, {name: backups, mountPath: /backups}]
          env: [{name: PGDATA, value: /data/pg}]
      volumes: [{name: backups, emptyDir: {}}]
  volumeClaimTemplates:
    - metadata: {name: data}
      spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
"""
CRON_JOB = """
apiVersion: batch/v1
kind: CronJob
metadata: {name: backup}
spec:
  schedule: "0 3 * * *"
  jobTemplate:
    spec:
      backoffLimit: 0
      template:
        spec:
          restartPolicy: Never
          volumes: [{name: out, emptyDir: {}}]
          containers:
            - name: backup
              image: lab/web:1
              command: [sh, -c, 'echo "kept for $(USER_NAME)" > /out/file; cat /out/file']
              env: [{name: USER_NAME, valueFrom: {secretKeyRef: {name: godel-db, key: POSTGRES_USER}}}]
              volumeMounts: [{name: out, mountPath: /out}]
"""


class Kubectl:
    """kubectl as one user."""

    def __init__(self, standin: Standin, user: str = "admin") -> None:
        self.environment = {**os.environ, "KUBECONFIG": str(standin.kubeconfig(user)), "HOME": str(standin.folder)}

    def run(self, *arguments: str, text: str | bytes = b"", code: int = 0) -> str:
        assert KUBECTL is not None
        data = text.encode() if isinstance(text, str) else text
        done = subprocess.run(
            [KUBECTL, *arguments], env=self.environment, input=data, capture_output=True, timeout=60, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout.decode() if code == 0 else done.stderr.decode()

    def create(self, *words: str) -> None:
        """Create what its own `create` makes, which it would send as Protocol Buffers, as JSON."""
        self.run("create", "-f", "-", text=self.run("create", *words, "--dry-run=client", "-o", "yaml"))


@pytest.fixture(scope="module")
def standin() -> Iterator[Standin]:
    web = Image(command=("bash", "-c", "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done"))
    with Standin(workspace() / "kc", images={"lab/web:1": web, "lab/postgres:15": postgres_image()}) as running:
        running.apply(WEB, POSTGRES)
        running.ready_pod(selector="app=web")
        yield running


@pytest.fixture(scope="module")
def kubectl(standin: Standin) -> Kubectl:
    return Kubectl(standin)


@pytest.fixture(scope="module")
def web(standin: Standin) -> str:
    return standin.ready_pod(selector="app=web")


def test_get_describe_and_version(kubectl: Kubectl, web: str) -> None:
    assert f"pod/{web}\n" in kubectl.run("get", "pods", "-l", "app=web", "-o", "name")
    assert kubectl.run("get", "deploy/web", "-o", "jsonpath={.status.readyReplicas}") == "2"
    assert "Server Version: v1.32" in kubectl.run("version")
    assert "lab/web:1" in kubectl.run("describe", "pod", web)
    assert "NotFound" in kubectl.run("get", "pod", "nobody", code=1)


def test_exec_carries_streams_and_exit_codes(kubectl: Kubectl, web: str) -> None:
    assert kubectl.run("exec", web, "--", "echo", "hi") == "hi\n"
    assert kubectl.run("exec", "-i", web, "--", "cat", text="through") == "through"
    assert kubectl.run("exec", "deploy/web", "-c", "c", "--", "pwd").strip().endswith("/c/c")
    assert "exit code 7" in kubectl.run("exec", web, "--", "sh", "-c", "echo no >&2; exit 7", code=7)
    assert "not found in $PATH" in kubectl.run("exec", web, "--", "no-such-program", code=1)
    assert "container nope is not valid" in kubectl.run("exec", web, "-c", "nope", "--", "true", code=1)


def test_files_are_copied_both_ways(kubectl: Kubectl, web: str, tmp_path: Path) -> None:
    content = os.urandom(2_000_000)
    (tmp_path / "there").write_bytes(content)
    kubectl.run("cp", str(tmp_path / "there"), f"{web}:here")
    kubectl.run("cp", f"{web}:here", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == content


def test_scale_rollout_and_logs(kubectl: Kubectl, standin: Standin) -> None:
    assert kubectl.run("scale", "deploy/web", "--replicas=3") == "deployment.apps/web scaled\n"
    assert "successfully rolled out" in kubectl.run("rollout", "status", "deploy/web", "--timeout=20s")
    kubectl.run("rollout", "restart", "deploy/web")
    assert "successfully rolled out" in kubectl.run("rollout", "status", "deploy/web", "--timeout=20s")
    kubectl.run("scale", "deploy/web", "--replicas=2")
    kubectl.run("wait", "--for=jsonpath={.status.replicas}=2", "deploy/web", "--timeout=20s")
    standin.until(lambda: len(standin.pods(selector="app=web")) == 2)
    assert kubectl.run("logs", "deploy/web", "--tail=1") == "up\n"


def test_the_runbook_s_commands_work_in_the_pod(kubectl: Kubectl, standin: Standin) -> None:
    def psql(statement: str, *how: str) -> str:
        command = ("psql", *how, "-U", "godel", "-d", "godel_production", "-Atc", statement)
        return kubectl.run("exec", "postgres-0", "--", *command).strip()

    standin.ready_pod(selector="app=postgres")
    psql("CREATE TABLE IF NOT EXISTS t AS SELECT generate_series(1, 1000) AS n")
    dump = "pg_dump -U godel godel_production | gzip > /backups/now.sql.gz && ls -l /backups"
    assert "now.sql.gz" in kubectl.run("exec", "postgres-0", "--", "bash", "-c", dump)
    assert standin.path("postgres-0", "/backups/now.sql.gz").stat().st_size > 500
    assert psql("SELECT inet_server_port() IS NULL") == "t"
    password = kubectl.run("exec", "postgres-0", "--", "sh", "-c", "echo $POSTGRES_PASSWORD").strip()
    command = ("env", f"PGPASSWORD={password}", "psql", "-h", "localhost", "-U", "godel", "-d", "godel_production")
    assert kubectl.run("exec", "postgres-0", "--", *command, "-Atc", "SELECT inet_server_port()").strip() == "5432"


def test_manifests_are_applied_and_a_job_is_made_from_a_cronjob(kubectl: Kubectl) -> None:
    assert "created" in kubectl.run("apply", "-f", "-", text=CRON_JOB)
    assert "unchanged" in kubectl.run("apply", "-f", "-", text=CRON_JOB)
    assert "configured" in kubectl.run("apply", "-f", "-", text=CRON_JOB.replace("0 3", "1 3"))
    assert "serverside-applied" in kubectl.run("apply", "--server-side", "-f", "-", text=CRON_JOB)
    kubectl.create("job", "--from=cronjob/backup", "manual")
    kubectl.run("wait", "--for=condition=complete", "job/manual", "--timeout=20s")
    assert kubectl.run("logs", "job/manual") == "kept for godel\n"
    kubectl.run("delete", "job/manual", "cronjob/backup")
    assert kubectl.run("get", "jobs,pods", "-l", "job-name=manual", "-o", "name") == ""


def test_rights_can_be_asked_for(standin: Standin) -> None:
    standin.grant("asker", "get pods", "create pods/exec")
    kubectl = Kubectl(standin, "asker")
    for verb, told in (("create", "true"), ("get", "false")):
        asked = {"verb": verb, "resource": "pods", "subresource": "exec", "namespace": "default"}
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
        text = json.dumps({**review, "spec": {"resourceAttributes": asked}})
        assert kubectl.run("create", "-f", "-", "-o", "jsonpath={.status.allowed}", text=text) == told


def test_objects_are_created_changed_and_deleted(kubectl: Kubectl) -> None:
    kubectl.create("secret", "generic", "made", "--from-literal=word=dummy")
    kubectl.run("patch", "secret", "made", "-p", '{"stringData": {"other": "x"}}')
    assert kubectl.run("get", "secret", "made", "-o", "jsonpath={.data.word}{.data.other}") == "ZHVtbXk=eA=="
    kubectl.run("label", "secret", "made", "kept=no")
    kubectl.run("delete", "secret", "-l", "kept=no")
    assert "NotFound" in kubectl.run("get", "secret", "made", code=1)
    kubectl.create("namespace", "elsewhere")
    kubectl.run("run", "alone", "-n", "elsewhere", "--image=lab/web:1", "--restart=Never")
    kubectl.run("wait", "-n", "elsewhere", "--for=condition=Ready", "pod/alone", "--timeout=20s")
    kubectl.run("delete", "namespace", "elsewhere", "--timeout=20s")
    assert "NotFound" in kubectl.run("get", "namespace", "elsewhere", code=1)

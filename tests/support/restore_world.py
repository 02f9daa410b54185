"""A server with its databases and an application, simulated for a procedure, with a fault at any of its calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.godel.postgres_runbook.plugins.plugin_utils._steps import StepFailed

FORMER, RESTORED = "former", "restored"
KILLED = {"failed": True, "msg": "MODULE FAILURE: See stdout/stderr for the exact error", "rc": -9}
# How a call fails: a message of the module, or its death, or the loss of the host, before and after what it does.
REFUSED, DIED_BEFORE, DIED_AFTER = "refused", "died before", "died after"
LOST_BEFORE, LOST_AFTER, ENDED_BEFORE, ENDED_AFTER = "lost before", "lost after", "ended before", "ended after"
FAULTS = (REFUSED, DIED_BEFORE, DIED_AFTER, LOST_BEFORE, LOST_AFTER)
INTERRUPTS = (ENDED_BEFORE, ENDED_AFTER)


@dataclass
class World:
    """A server with its databases, and an application.

    Attributes:
        databases: what is under which name; `shop` is production.
        replicas, remembered: of the workload.
        healthy_with: the databases with which the application is healthy.
        faults: what happens at which call, by its number from 0.
    """

    databases: dict[str, str] = field(default_factory=lambda: {"shop": FORMER})
    replicas: int = 3
    remembered: int | None = None
    healthy_with: tuple[str, ...] = (FORMER, RESTORED)
    faults: dict[int, str] = field(default_factory=dict)
    check_mode: bool = False
    calls: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    @property
    def production(self) -> str | None:
        return self.databases.get("shop")

    @property
    def runs(self) -> bool:
        return self.replicas > 0

    @property
    def is_healthy(self) -> bool:
        return self.runs and self.production in self.healthy_with

    def say(self, text: str) -> None:
        self.lines.append(text)

    def sleep(self, dummy: float) -> None:
        """It takes no time."""

    def execute(self, module: str, args: Mapping[str, Any], *, check_mode: bool) -> Mapping[str, Any]:
        name = module.rpartition(".")[2]
        act: Callable[[Mapping[str, Any], bool], dict[str, Any]] = getattr(self, f"_{name}")
        fault = self.faults.get(len(self.calls))
        self.calls.append(
            f"{name} {args.get('state') or args.get('replacement') or ' '.join(args.get('argv', []))}".strip()
        )
        if fault in (DIED_AFTER, LOST_AFTER, ENDED_AFTER, None):
            result = act(args, check_mode)
            if fault is None:
                return result
        if fault in INTERRUPTS:
            raise KeyboardInterrupt
        if fault in (LOST_BEFORE, LOST_AFTER):
            raise StepFailed("The host could not be reached: no route.", unreachable=True)
        if name == "uri":
            return {"failed": True, "status": -1, "msg": "Request failed: refused"}
        return {"failed": True, "msg": "It is refused.", "error": {"swapped": False}} if fault == REFUSED else KILLED

    def _workload_scale(self, args: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
        before = (self.replicas, self.remembered)
        if not check_mode and args["state"] == "stopped":
            self.remembered = self.replicas if self.remembered is None else self.remembered
            self.replicas = 0
        elif not check_mode and self.remembered is not None:
            self.replicas, self.remembered = self.remembered, None
        changed = before != (self.replicas, self.remembered)
        return {"changed": changed, "workload": {"replicas": self.replicas, "remembered": self.remembered}}

    def _command(self, args: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
        assert not check_mode
        self.replicas = 0 if args["argv"] == ["stop"] else 3
        return {"changed": True, "rc": 0}

    def _uri(self, dummy: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
        assert not check_mode
        if not self.runs:
            return {
                "failed": True,
                "status": -1,
                "msg": "Request failed: <urlopen error [Errno 111] Connection refused>",
            }
        return {"status": 200, "content": "fine"} if self.is_healthy else {"failed": True, "status": 503, "msg": "503"}

    def _pg_restore(self, dummy: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
        if self.production == RESTORED:
            return {"changed": False, "stage": None, "findings": [], "msg": "shop came from it; nothing to do."}
        if check_mode:
            return {"changed": True, "stage": None, "findings": [], "msg": "It would be restored."}
        self.databases["shop_staged"] = RESTORED
        return {"changed": True, "stage": {"name": "shop_staged", "backup": "b", "lost": []}, "msg": "It is staged."}

    def _pg_backup(self, dummy: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
        assert not check_mode
        return {"changed": True, "msg": "It is backed up."}

    def _pg_database_swap(self, args: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
        wanted = args["replacement"]
        if wanted == "replaced":
            if "shop_replaced" not in self.databases or self.production == FORMER:
                return {"changed": False, "msg": "shop is already in the requested state."}
            wanted = "shop_replaced"
        if check_mode:
            return {"changed": True, "findings": [], "diff": {"before": "", "after": ""}, "msg": "It would be swapped."}
        new = self.databases.pop(wanted)
        old = self.databases.pop("shop", None)
        self.databases["shop"] = new
        if old:
            self.databases["shop_replaced"] = old
        return {
            "changed": True, "live": {"backup": "b"}, "replaced": old and "shop_replaced", "downtime_s": 0.1,
            "attempts": 1, "ended_sessions": [{}, {}], "msg": f"{new} is in production.",
        }  # fmt: skip

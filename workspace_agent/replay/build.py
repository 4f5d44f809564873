"""Build an environment beside the image's packages: plan against them, install what is missing."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from shutil import which

from workspace_agent.host import command, files
from workspace_agent.host.room import room
from workspace_agent.model.problem import AgentError, Problem
from workspace_agent.replay import dists, failing, inplace, lines, plan, settings, weigh
from workspace_agent.replay.place import site_of
from workspace_agent.replay.redact import anonymous, redacted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from workspace_agent.host.interpreter import Interpreter
    from workspace_agent.replay.key import Policy
    from workspace_agent.replay.lines import Line
    from workspace_agent.replay.plan import Plan

# The budgets of the specification: a plan, an install, and an install that does nothing.
_PLAN, _INSTALL, _SILENT = 60.0, 1800.0, 180.0

# How long to wait before the next try, when the network was to blame.
_PAUSES = (2.0, 8.0)

# A quarter of all bytecode is of tests that nobody imports, and each file costs every restore.
_TESTS = {"test", "tests"}

_PIP = '#!/bin/sh\nexec "$(dirname "$(readlink -f "$0")")/python" -m pip "$@"\n'

# A .pth line of the image leads to packages on the volume: pip would take them for the image's.
_BLIND = """import os, sys
volume = os.environ.get("WORKSPACE_VOLUME") or "\\0"
sys.path[:] = [one for one in sys.path if not one.startswith(volume + "/")]
"""


@dataclass(frozen=True)
class Builder:
    """Builds in the empty folder *top* with the installers that *env* leads to; in mode `inplace`
    nothing goes there, but into the image's own Python.

    *work* is a private folder of the container. All output goes to *log*, without any of *secrets*.
    """

    python: Interpreter
    base: Mapping[str, str]
    lines: Sequence[Line]
    policy: Policy
    env: Mapping[str, str]
    top: str
    work: str
    log: str
    tell: Callable[[str], None]
    secrets: Collection[str] = ()
    run: Callable[..., command.Finished] = command.run

    def make(self) -> Plan:
        """Build; returns what was done. Raises AgentError, OSError."""
        if not self.policy.is_in_place:
            self.bare()
        found = self.plan()
        if self.policy.on_conflict == "fail" and found.conflicts:
            raise AgentError(failing.conflict([one.sentence() for one in found.conflicts]))
        if found.additions:
            self._install(found)
        self._verify(found)
        self._scrub()
        return found

    def bare(self) -> None:
        """Make an environment that adds nothing."""
        layered = self.policy.mode != "isolated"
        config = files.read(f"{self._outer}/pyvenv.cfg")
        # A venv made from a venv sees the packages of the Python below both, and not that one's.
        below = config is None or b"include-system-site-packages = true" in config
        options = ["--system-site-packages"] if layered and below else []
        argv = [self.python.executable, "-I", "-m", "venv", "--without-pip", *options, self.top]
        self._must(argv, _PLAN, "making an empty environment")
        if layered and config is not None:
            line = f"import site; site.addsitedir({self.python.site!r})\n"
            files.commit(f"{self.site}/_image.pth", line)
        if "pip" in self.base and layered:
            for name in ("pip", "pip3"):
                files.commit(f"{self.top}/bin/{name}", _PIP, 0o755)

    def compile(self, paths: Sequence[str]) -> None:
        """Compile the files *paths* of the folder, so that their times do not matter. Errors are
        their own: packages carry files that are no Python of this version.
        """
        names = self._file("compile.txt")
        own = (one for one in paths if one.endswith(".py") and not _TESTS & set(one.split("/")))
        files.commit(names, "".join(f"{self.folder}/{one}\n" for one in own))
        argv = [self.python.executable, "-I", "-m", "compileall", "-q", "-j", "0", "-f",
                "--invalidation-mode", "unchecked-hash", "-i", names]  # fmt: skip
        self.run(argv, log=os.devnull, env=self._environ(), timeout=_INSTALL, cwd=self.work,
                 tell=lambda text: self.tell(f"compiling: {text}"))  # fmt: skip

    def plan(self) -> Plan:
        """Return what has to be added; pip has to see the environment for it."""
        asked = lines.write(self.lines, self._file("asked"))
        wanted = self._by_uv(asked) if self._uv else None
        if wanted is None:
            wanted = self._by_pip(asked)
        seen = {} if self.policy.mode == "isolated" else self.base
        return plan.decide(wanted, seen, self.lines, self.policy)

    def weighed(self) -> tuple[Plan, dict[str, int]]:
        """Return the plan, and how many bytes the index sends for packages that are at odds."""
        found = self.plan()
        names = [name for one in found.conflicts for name in (one.name, *one.brings)]
        if not (self._uv and names):
            return found, {}
        pins, lock = self._file("weigh.txt"), self._file("pylock.weigh.toml")
        options = [line.text for line in self.lines if line.is_option]
        wanted = [f"{one}=={v}" for one in names if (v := found.additions.get(one))]
        files.commit(pins, "".join(f"{one}\n" for one in (*options, *wanted)), 0o600)
        argv = [self._uv, "pip", "compile", "--no-deps", "--format", "pylock.toml", "--quiet",
                "--python", self.python.executable, "--output-file", lock, pins]  # fmt: skip
        if self._try(argv, _PLAN, "asking for sizes").code:
            return found, {}
        return found, weigh.sizes(files.read(lock, 8 << 20) or b"", self.python.abi)

    @property
    def folder(self) -> str:
        """The folder that all files of the packages are below."""
        return inplace.prefix(self.python.site) if self.policy.is_in_place else self.top

    @property
    def site(self) -> str:
        """The folder that packages go to; raises OSError."""
        return self.python.site if self.policy.is_in_place else site_of(self.top)

    @property
    def _python(self) -> str:
        return self.python.executable if self.policy.is_in_place else f"{self.top}/bin/python"

    @property
    def _uv(self) -> str:
        return which("uv", path=self.env.get("PATH", os.defpath)) or ""

    @property
    def _outer(self) -> str:
        return os.path.dirname(os.path.dirname(self.python.executable))

    @property
    def _pip(self) -> list[str]:
        return [self.python.executable, "-I", "-m", "pip", "--python", self._python,
                "--disable-pip-version-check", "--no-input"]  # fmt: skip

    def _by_uv(self, asked: Sequence[str]) -> dict[str, str] | None:
        """Ask uv, against the image's own interpreter: of a layered one it sees half."""
        of = self._python if self.policy.mode == "isolated" else self.python.executable
        out = self._file("plan.json")
        argv = [self._uv, "pip", "install", "--dry-run", "--output-format", "json", "--python", of,
                "--break-system-packages", *asked]  # fmt: skip
        ended = self._try(argv, _PLAN, "planning", out)
        if ended.code and failing.is_network(ended.tail):
            raise AgentError(self._failed("planning", ended))
        # None, too, from a uv whose dry run we do not know.
        return None if ended.code else plan.from_uv(files.read(out, 64 << 20))

    def _by_pip(self, asked: Sequence[str]) -> dict[str, str]:
        out = self._file("report.json")
        argv = [*self._pip, "install", "--dry-run", "--quiet", "--report", out, *asked]
        ended = self._must(argv, _INSTALL, "planning")
        wanted = plan.from_pip(files.read(out, 64 << 20))
        if wanted is None:
            raise AgentError(self._failed("planning", ended))
        return wanted

    def _install(self, found: Plan) -> None:
        path = self._file("additions.txt")
        files.commit(path, plan.as_requirements(found, self.lines), 0o600)
        argv = (
            [self._uv, "pip", "install", "--python", self._python]
            if self._uv
            else [*self._pip, "install", "--no-compile"]
        )
        allowed = ["--break-system-packages"] if self.policy.is_in_place else []
        self._must([*argv, *allowed, "--no-deps", "-r", path], _INSTALL, "installing")

    def _verify(self, found: Plan) -> None:
        missing = sorted(found.additions.keys() - dists.installed([self.site]))
        if missing:
            what = "the installer said it was done, and packages are missing"
            why = ", ".join(missing[:8])
            raise AgentError(Problem("replay.build-failed", what, why, failing.FIX))

    def _scrub(self) -> None:
        """Take credentials out of what installers note of where a package came from."""
        for _, info in dists.infos(self.site):
            path = f"{self.site}/{info}/direct_url.json"
            text = (files.read(path) or b"").decode("utf-8", "surrogateescape")
            if text != anonymous(text):
                files.commit(path, anonymous(text))

    def _must(self, argv: Sequence[str], limit: float, doing: str) -> command.Finished:
        ended = self._try(argv, limit, doing)
        if ended.code or ended.timed_out:
            raise AgentError(self._failed(doing, ended))
        return ended

    def _try(
        self, argv: Sequence[str], limit: float, doing: str, out: str = ""
    ) -> command.Finished:
        """Run *argv*, and again after a while as long as the network is to blame."""
        os.makedirs(os.path.dirname(self.log), 0o700, exist_ok=True)
        if argv[0] == self._uv:
            argv = [*argv, *settings.flags_for_uv(self.env, self._outer)]
        for pause in (*_PAUSES, 0):
            ended = self.run(
                argv, log=self.log, env=self._environ(), timeout=limit, cwd=self._file(""),
                tell=lambda text: self.tell(f"{doing}: {text}"), out=out, clean=self._clean,
                moved=self._moved, silence=_SILENT,
            )  # fmt: skip
            if ended.code == 0 or not failing.is_network(ended.tail):
                break
            until = time.monotonic() + pause
            while time.monotonic() < until:
                self.tell(f"{doing}: the network failed, the next try is near")
                time.sleep(0.2)
        return ended

    def _environ(self) -> dict[str, str]:
        drop = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PIP_TARGET", "PIP_PREFIX", "PIP_USER")
        cache = f"{self.work}/cache"
        own = {
            "UV_CACHE_DIR": cache,
            "PIP_CACHE_DIR": f"{cache}/pip",
            "UV_HTTP_RETRIES": "1",
            "PIP_RETRIES": "1",
            "UV_NO_PROGRESS": "1",
            "PYTHONPATH": os.path.dirname(self._file("blind/sitecustomize.py")),
        }
        files.commit(f"{own['PYTHONPATH']}/sitecustomize.py", _BLIND)
        kept = {name: value for name, value in self.env.items() if name not in drop}
        return {**settings.for_uv(kept, self._outer), **kept, **own}

    def _file(self, name: str) -> str:
        """Return the path of a file of ours, whose folder is there."""
        path = f"{self.work}/{name}"
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        return path

    def _clean(self, text: str) -> str:
        return redacted(text, self.secrets)

    def _moved(self) -> object:
        """What changes while an installer works: it may be silent through gigabytes."""
        return room(self.work).free >> 20

    def _failed(self, doing: str, ended: command.Finished) -> Problem:
        told = replace(ended, tail=self._clean(ended.tail))
        return failing.problem(doing, told, self.lines, self.log)

"""Build an environment beside the image's packages: plan against them, install what is missing."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from shutil import which

from workspace_agent.host import command, files
from workspace_agent.host.room import room
from workspace_agent.model.problem import AgentError, Problem
from workspace_agent.replay import dists, lines, plan, settings, weigh
from workspace_agent.replay.pack import no_room
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

# What uv and pip say when the network, or the index behind it, is to blame.
_NETWORK = (
    "error sending request", "connection", "timed out", "timeout", "dns error", "temporary failure",
    "name or service not known", "newconnectionerror", "502", "503", "504", "failed to fetch",
    "network is unreachable",
)  # fmt: skip

# What they say when the container's disk is.
_FULL = ("no space left", "quota exceeded", "os error 28")

# A quarter of all bytecode is of tests that nobody imports, and each file costs every restore.
_TESTS = {"test", "tests"}

_PIP = '#!/bin/sh\nexec "$(dirname "$(readlink -f "$0")")/python" -m pip "$@"\n'


@dataclass(frozen=True)
class Builder:
    """Builds with the installers that *env* leads to; *work* is a private folder of the container.

    All output goes to *log*, without any of *secrets*.
    """

    python: Interpreter
    base: Mapping[str, str]
    lines: Sequence[Line]
    policy: Policy
    env: Mapping[str, str]
    work: str
    log: str
    secrets: Collection[str] = ()
    run: Callable[..., command.Finished] = command.run

    def make(self, top: str, tell: Callable[[str], None]) -> Plan:
        """Build in the empty folder *top*; returns what was done. Raises AgentError, OSError.

        In mode `inplace` nothing goes there, but into the image's own Python.
        """
        if not self.policy.is_in_place:
            self._venv(top, tell)
        found = self.plan(top, tell)
        if self.policy.on_conflict == "fail" and found.conflicts:
            raise AgentError(_conflict([one.sentence() for one in found.conflicts]))
        if found.additions:
            self._install(top, found, tell)
        self._verify(top, found)
        self._scrub(top)
        return found

    def bare(self, top: str, tell: Callable[[str], None]) -> None:
        """Make an environment in the empty folder *top* that adds nothing."""
        self._venv(top, tell)

    def compile(self, top: str, paths: Sequence[str], tell: Callable[[str], None]) -> None:
        """Compile the files *paths* of *top*, so that their times do not matter. Errors are their
        own: packages carry files that are no Python of this version.
        """
        names = self._file("compile.txt")
        own = (one for one in paths if one.endswith(".py") and not _TESTS & set(one.split("/")))
        files.commit(names, "".join(f"{top}/{one}\n" for one in own))
        argv = [self.python.executable, "-I", "-m", "compileall", "-q", "-j", "0", "-f",
                "--invalidation-mode", "unchecked-hash", "-i", names]  # fmt: skip
        self.run(argv, log=os.devnull, env=self._environ(), timeout=_INSTALL, cwd=self.work,
                 tell=lambda text: tell(f"compiling: {text}"))  # fmt: skip

    def plan(self, top: str, tell: Callable[[str], None]) -> Plan:
        """Return what has to be added; *top* is the environment, for pip, which has to see it."""
        asked = lines.write(self.lines, self._file("asked"))
        wanted = self._by_uv(asked, top, tell) if self._uv else None
        if wanted is None:
            wanted = self._by_pip(asked, top, tell)
        return plan.decide(wanted, self._seen, self.lines, self.policy)

    def weighed(self, top: str, tell: Callable[[str], None]) -> tuple[Plan, dict[str, int]]:
        """Return the plan, and how many bytes the index sends for packages that are at odds."""
        found = self.plan(top, tell)
        names = [name for one in found.conflicts for name in (one.name, *one.brings)]
        if not (self._uv and names):
            return found, {}
        pins, lock = self._file("weigh.txt"), self._file("pylock.weigh.toml")
        options = [line.text for line in self.lines if line.is_option]
        wanted = [f"{one}=={v}" for one in names if (v := found.additions.get(one))]
        files.commit(pins, "".join(f"{one}\n" for one in (*options, *wanted)), 0o600)
        argv = [self._uv, "pip", "compile", "--no-deps", "--format", "pylock.toml", "--quiet",
                "--python", self.python.executable, "--output-file", lock, pins]  # fmt: skip
        if self._try(argv, _PLAN, tell, "asking for sizes").code:
            return found, {}
        return found, weigh.sizes(files.read(lock, 8 << 20) or b"", self.python.abi)

    def site(self, top: str) -> str:
        """Return the folder that packages go to; raises OSError."""
        return self.python.site if self.policy.is_in_place else site_of(top)

    def _python(self, top: str) -> str:
        return self.python.executable if self.policy.is_in_place else f"{top}/bin/python"

    @property
    def _seen(self) -> Mapping[str, str]:
        """The packages that the environment sees beside its own."""
        return {} if self.policy.mode == "isolated" else self.base

    @property
    def _uv(self) -> str:
        return which("uv", path=self.env.get("PATH", os.defpath)) or ""

    def _venv(self, top: str, tell: Callable[[str], None]) -> None:
        layered = self.policy.mode != "isolated"
        outer = os.path.dirname(os.path.dirname(self.python.executable))
        config = files.read(f"{outer}/pyvenv.cfg")
        # A venv made from a venv sees the packages of the Python below both, and not that one's.
        below = config is None or b"include-system-site-packages = true" in config
        options = ["--system-site-packages"] if layered and below else []
        argv = [self.python.executable, "-I", "-m", "venv", "--without-pip", *options, top]
        self._must(argv, _PLAN, tell, "making an empty environment")
        if layered and config is not None:
            line = f"import site; site.addsitedir({self.python.site!r})\n"
            files.commit(f"{site_of(top)}/_image.pth", line)
        if "pip" in self.base and layered:
            for name in ("pip", "pip3"):
                files.commit(f"{top}/bin/{name}", _PIP, 0o755)

    def _by_uv(
        self, asked: Sequence[str], top: str, tell: Callable[[str], None]
    ) -> dict[str, str] | None:
        """Ask uv, against the image's own interpreter: of a layered one it sees half."""
        of = f"{top}/bin/python" if self.policy.mode == "isolated" else self.python.executable
        out = self._file("plan.json")
        argv = [self._uv, "pip", "install", "--dry-run", "--output-format", "json", "--python", of,
                "--break-system-packages", *asked]  # fmt: skip
        ended = self._try(argv, _PLAN, tell, "planning", out)
        if ended.code == 0:
            try:
                return plan.from_uv((files.read(out, 64 << 20) or b"").decode())
            except (ValueError, KeyError, TypeError):
                return None  # a uv whose dry run we do not know
        if is_network(ended.tail):
            raise AgentError(self._failed("planning", ended, network=True))
        return None

    def _by_pip(
        self, asked: Sequence[str], top: str, tell: Callable[[str], None]
    ) -> dict[str, str]:
        out = self._file("report.json")
        options = ["install", "--dry-run", "--quiet", "--report", out]
        argv = [*self._pip(top), *options, *asked]
        ended = self._try(argv, _INSTALL, tell, "planning")
        if ended.code:
            raise AgentError(self._failed("planning", ended))
        try:
            return plan.from_pip((files.read(out, 64 << 20) or b"").decode())
        except (ValueError, KeyError, TypeError) as error:
            raise AgentError(self._failed("planning", ended)) from error

    def _pip(self, top: str) -> list[str]:
        return [self.python.executable, "-I", "-m", "pip", "--python", self._python(top),
                "--disable-pip-version-check", "--no-input"]  # fmt: skip

    def _install(self, top: str, found: Plan, tell: Callable[[str], None]) -> None:
        path = self._file("additions.txt")
        files.commit(path, plan.as_requirements(found, self.lines), 0o600)
        argv = (
            [self._uv, "pip", "install", "--python", self._python(top)]
            if self._uv
            else [*self._pip(top), "install", "--no-compile"]
        )
        allowed = ["--break-system-packages"] if self.policy.is_in_place else []
        self._must([*argv, *allowed, "--no-deps", "-r", path], _INSTALL, tell, "installing")

    def _verify(self, top: str, found: Plan) -> None:
        made = dists.installed([self.site(top)])
        missing = sorted(name for name in found.additions if name not in made)
        if missing:
            what = "the installer said it was done, and packages are missing"
            raise AgentError(Problem("replay.build-failed", what, ", ".join(missing[:8]), _FIX))

    def _scrub(self, top: str) -> None:
        """Take credentials out of what installers note of where a package came from."""
        for _, info in dists.infos(self.site(top)):
            path = f"{self.site(top)}/{info}/direct_url.json"
            text = (files.read(path) or b"").decode("utf-8", "surrogateescape")
            if text != anonymous(text):
                files.commit(path, anonymous(text))

    def _must(
        self, argv: Sequence[str], limit: float, tell: Callable[[str], None], doing: str
    ) -> None:
        ended = self._try(argv, limit, tell, doing)
        if ended.code or ended.timed_out:
            raise AgentError(self._failed(doing, ended))

    def _try(
        self,
        argv: Sequence[str],
        limit: float,
        tell: Callable[[str], None],
        doing: str,
        out: str = "",
    ) -> command.Finished:
        """Run *argv*, and again after a while as long as the network is to blame."""
        os.makedirs(os.path.dirname(self.log), 0o700, exist_ok=True)
        if argv[0] == self._uv:
            argv = [*argv, *settings.flags_for_uv(self.env, self._prefix)]
        for pause in (*_PAUSES, None):
            ended = self.run(
                argv, log=self.log, env=self._environ(), timeout=limit, cwd=self._file(""),
                tell=lambda text: tell(f"{doing}: {text}"), out=out, clean=self._clean,
                moved=self._moved, silence=_SILENT,
            )  # fmt: skip
            if ended.code == 0 or pause is None or not is_network(ended.tail):
                return ended
            until = time.monotonic() + pause
            while time.monotonic() < until:
                tell(f"{doing}: the network failed, the next try is near")
                time.sleep(0.2)
        raise AssertionError

    def _environ(self) -> dict[str, str]:
        drop = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PIP_TARGET", "PIP_PREFIX", "PIP_USER")
        cache = f"{self.work}/cache"
        own = {
            "UV_CACHE_DIR": cache,
            "PIP_CACHE_DIR": f"{cache}/pip",
            "UV_HTTP_RETRIES": "1",
            "PIP_RETRIES": "1",
            "UV_NO_PROGRESS": "1",
        }
        kept = {name: value for name, value in self.env.items() if name not in drop}
        return {**settings.for_uv(kept, self._prefix), **kept, **own}

    @property
    def _prefix(self) -> str:
        return os.path.dirname(os.path.dirname(self.python.executable))

    def _file(self, name: str) -> str:
        """Return the path of a file of ours, whose folder is there."""
        os.makedirs(self.work, 0o700, exist_ok=True)
        return f"{self.work}/{name}"

    def _clean(self, text: str) -> str:
        return redacted(text, self.secrets)

    def _moved(self) -> object:
        """What changes while an installer works: it may be silent through gigabytes."""
        return room(self.work).free >> 20

    def _placed(self, said: str) -> str:
        """Return what an installer *said* with the person's own file in the place of ours."""
        asked = [line for line in self.lines if not line.constraint]
        found = _asked_line(said)
        number = int(found["n"] or found["m"]) if found else 0
        if not found or not 0 < number <= len(asked):
            return said
        return said.replace(found[0], asked[number - 1].place)

    def _failed(self, doing: str, ended: command.Finished, *, network: bool = False) -> Problem:
        said = [line.strip() for line in ended.tail.splitlines() if line.strip()]
        first = [one for one in said if one.lower().startswith("error")][:1]
        why = "; ".join(dict.fromkeys((*first, *said[-1:])))
        if ended.timed_out:
            why = f"it took longer than {ended.secs:.0f} s, or did nothing for {_SILENT:.0f} s"
        what = f"{doing} the packages did not succeed"
        why, fix = redacted(self._placed(why), self.secrets)[:400], f"see {self.log}; {_FIX}"
        if network or is_network(ended.tail):
            return Problem("replay.no-network", what, why, fix)
        if any(word in ended.tail.lower() for word in _FULL):
            return no_room(why)
        return Problem("replay.build-failed", what, why, fix)


def _asked_line(said: str) -> re.Match[str] | None:
    """Return where an installer names a line of what we had asked of it."""
    return re.search(
        r"`?[^\s`]*asked-r\.txt`?(?: \(line| at line) (?P<n>\d+)\)?"
        r"|line (?P<m>\d+) of \S*asked-r\.txt",
        said,
    )


_FIX = "the last good environment, or the image's packages, are in use until it is mended"


def is_network(said: str) -> bool:
    """Say whether an installer that *said* this failed for the network's sake."""
    lowered = said.lower()
    if "certificate" in lowered:
        return False  # it answers, and will not be another one in eight seconds
    return any(word in lowered for word in _NETWORK)


def _conflict(sentences: Sequence[str]) -> Problem:
    return Problem(
        "replay.conflict",
        sentences[0],
        "; ".join(sentences[1:6]) or "`replay.on_conflict` is `fail`",
        "take the pin out, or set `replay.on_conflict` to `shadow` or `keep-base`",
    )

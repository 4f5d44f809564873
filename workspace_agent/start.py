"""PID 1's life: ask the fast path, else the engine; start the workload; answer for it.

This process never reads the volume, never imports the engine and never waits without a limit:
whatever fails or hangs does so in a child, and the workload starts all the same.
"""

from __future__ import annotations

import errno
import sys
from time import clock_gettime_ns, monotonic

from workspace_agent import fastpath
from workspace_agent.host import files, mounts, passwd, runtime
from workspace_agent.host.chalf import os
from workspace_agent.host.chalf import signal as _signal
from workspace_agent.model import layout
from workspace_agent.model.jsontext import dumps
from workspace_agent.model.recipe import compose, inside, shell_files
from workspace_agent.supervise import exitcode, init, keeper, spawn, watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from workspace_agent.fastpath import Plan
    from workspace_agent.supervise.freezer import Freezer

# The kubelet's default grace is 30 s; five are left for our own exit and the runtime's.
GRACE = 25.0

# A pod without a command still has to live: people come in by exec.
HOLD = ["sleep", "infinity"]


# CAP_CHECKPOINT_RESTORE, or CAP_SYS_ADMIN, of linux/capability.h.
_CHECKPOINT_RIGHTS = 1 << 40 | 1 << 21

# The clock that files get their times from (linux/time.h); `time` has no name for it.
_COARSE = 5

# Disks that do not stand at the other end of a network; "" is the container's own.
_LOCAL = ("", "tmpfs", "overlay")


class Boot:
    """What PID 1 knows: where it is, what it was given, and what the engine answered."""

    def __init__(self, argv: list[str]) -> None:
        self.began = monotonic()
        self.argv = argv[1:] if argv[:1] == ["--"] else argv
        self.root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        self.environ = container_environ()
        self.mounts: Mapping[str, tuple[str, str, bool]] = {}
        self.container = False
        self.runtime = ""
        self.env: Mapping[str, str] = self.environ
        self.command: list[str] = []
        self.grace = GRACE
        self.termination_log = "/dev/termination-log"
        self.problems: list[dict[str, str]] = []
        self.record: dict[str, object] = {}
        self.lock = -1
        self.watch: list[str] = []  # folders in which somebody may install something by hand
        self.keeper: keeper.Keeper | None = None
        self.budget = 0.0  # what the watcher may take after the workload; 0: there is none
        self.floor = 0  # where the workload's process numbers begin; 0: anywhere
        self.freeze = False  # whether it is frozen when the pod ends
        self.restored = 0  # its process, where it goes on from an earlier container
        self.refused = ""  # why the workload must not start; only a profile can ask for that

    def look(self) -> None:
        """Find out where we are."""
        self.mounts = mounts.read_mounts()
        self.container = mounts.in_container(self.environ, self.mounts)
        self.runtime = runtime.make(self.environ, self.container)

    @staticmethod
    def say(line: str) -> None:
        """Write one line to stderr in one piece, named unless it is an object for a program.

        A closed stderr is no reason to die.
        """
        name = "" if line.startswith("{") else "workspace-agent: "
        try:
            os.write(2, os.fsencode(f"{name}{line}\n"))
        except OSError:
            return


def main(argv: list[str]) -> None:
    """Boot, run *argv*, and exit as it did; never returns."""
    mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, init.EVERY)
    boot = Boot(argv)
    try:
        boot.look()
        code = _live(boot, mask)
    except Exception as error:
        boot.say(f"the agent failed ({type(error).__name__}: {error}); CMD runs all the same")
        code = _go_on(boot, mask)
    os._exit(code)


def container_environ() -> dict[str, str]:
    """Return the environment that the container gave us.

    CPython sets LC_CTYPE for itself in a C locale (PEP 538); the workload must not see that.
    """
    env = dict(os.environ)
    if env.get("LC_CTYPE") == "C.UTF-8":
        given = files.read("/proc/self/environ")
        if given is not None and b"\0LC_CTYPE=" not in b"\0" + given:
            del env["LC_CTYPE"]
    return env


def _live(boot: Boot, mask: set[int]) -> int:
    _adopt_orphans()
    busy = _lock(boot)
    if busy:
        boot.say(f"already running here as process {busy}; CMD runs inside its workspace")
        boot.environ = inside(boot.environ, runtime.variables(f"{boot.runtime}/{layout.ENVIRON}"),
                              runtime.variables(f"/proc/{busy}/environ"))  # fmt: skip
        return _untouched(boot, mask)
    if boot.runtime:
        runtime.clear(boot.runtime)
    _terminate_log(boot, "setup", None)
    stopped = _prepare(boot, mask)
    if stopped is None and boot.refused:
        boot.say(boot.refused)
        stopped = exitcode.AGENT_FAILED
    if stopped is not None:
        _terminate_log(boot, "exited", stopped)
        return stopped
    return _run(boot, mask)


def _go_on(boot: Boot, mask: set[int]) -> int:
    """Answer for the workload after a fault of ours: start it untouched, but never twice."""
    child = boot.record.get("workload")
    if isinstance(child, int):
        return init.attend(child, init.Duty(boot.grace))
    return _untouched(boot, mask)


def _prepare(boot: Boot, mask: set[int]) -> int | None:
    """Fill *boot* with what the workload gets; an exit code when somebody stopped us meanwhile."""
    plan = fastpath.load(boot.root)
    if plan is not None and fastpath.holds(plan, boot.environ, boot.mounts, boot.runtime):
        try:
            _take(boot, plan)
            return None
        except OSError as error:
            boot.say(f"the fast path is not open here ({error}); asking the engine")
    from workspace_agent.consult import consult  # not on the fast path

    return consult(boot, mask)


def _take(boot: Boot, plan: Plan) -> None:
    """Make what *plan* promises of this container, all of it outside the volume."""
    recipe = plan["recipe"]
    boot.env = compose(recipe, boot.environ)
    boot.command, boot.grace = plan["command"], plan["grace"]
    boot.termination_log = plan["termination_log"]
    boot.watch, boot.budget = plan["watch"], plan["budget"]
    boot.floor, boot.freeze = plan["floor"], plan["freeze"]
    if plan["user"]:
        passwd.move_home("/etc/passwd", plan["user"], recipe["home"])
    if boot.runtime:
        _write_runtime(boot, plan)
    secs = monotonic() - boot.began
    if boot.environ.get("WORKSPACE_AGENT_JSON"):
        boot.say(dumps({"kind": "boot.done", "status": "ok", "secs": round(secs, 6)}))
    elif not boot.environ.get("WORKSPACE_AGENT_QUIET"):
        boot.say(f"workspace ready in {secs * 1000:.0f} ms (nothing to do)")


def _write_runtime(boot: Boot, plan: Plan) -> None:
    """Write what the engine would."""
    at, recipe = boot.runtime, plan["recipe"]
    wanted = shell_files(recipe, boot.environ, at)
    if plan["fish"]:
        from workspace_agent.steps import renderers  # for images with fish, 1 ms

        wanted += renderers.fish_files(recipe, boot.environ, at)
    for path, text, mode in wanted:
        if text:
            files.commit(path, text, mode)
    report = {"schema": 1, "status": "ok", "path": "fast", "volume": plan["volume"],
              "home": recipe["home"], "secs": round(monotonic() - boot.began, 6), "steps": [],
              "problems": []}  # fmt: skip
    files.commit(f"{at}/{layout.STATUS}", dumps(report) + "\n")


def _run(boot: Boot, mask: set[int]) -> int:
    argv = boot.argv or boot.command or HOLD
    if boot.floor and boot.environ.get("SNAPSHOT_RESTORE_STANDBY") == "1" and not boot.restored:
        argv = _python(boot, "__main__.py", "placeholder", "--", *argv)
    eye = _watch(boot, mask)
    if boot.floor:
        _for_checkpoints(boot, argv)
    boot.record["since"] = clock_gettime_ns(_COARSE)
    if boot.restored:
        started = spawn.Spawned(boot.restored, spawn.NO_TTY, 0)
    else:
        started = spawn.spawn(argv, boot.env, mask)
    if started.error:
        code = exitcode.not_started(started.error)
        _not_started(boot, argv[0], started.error)
    else:
        boot.record["workload"] = started.pid
        _record(boot, "running")
        _terminate_log(boot, "running", None)
        beside: list[init.Companion] = [eye] if eye else []
        if boot.budget and boot.runtime:
            boot.keeper = keeper.Keeper(_watcher(boot), boot.environ, mask, boot.budget)
            beside.append(boot.keeper)
        code = init.attend(
            started.pid, init.Duty(boot.grace, started.tty), beside=beside,
            freezer=_freezer(boot, mask) if boot.floor and boot.runtime else None,
        )  # fmt: skip
    boot.record["exit_code"] = code
    if os.getpid() != 1:
        _record(boot, "exited")  # after PID 1 there is nobody left to read it
    _terminate_log(boot, "exited", code)
    return code


def _watch(boot: Boot, mask: set[int]) -> watch.Watch | None:
    """Keep an eye on what is installed by hand, in folders that cannot hang us."""
    folders = [one for one in boot.watch if mounts.kind(one, boot.mounts) in _LOCAL]

    def work(told: Callable[[], bool], last: bool) -> int:
        if boot.keeper:
            boot.keeper.leave()
        from workspace_agent.consult import capture  # in a child: nothing of it stays here

        return capture(boot, mask, told, last)

    return watch.Watch(folders, work) if folders and boot.runtime else None


def _for_checkpoints(boot: Boot, argv: list[str]) -> None:
    """Make ready for a workload that may be frozen, and go on in another container."""
    from workspace_agent.supervise import numbers  # for images with CRIU

    boot.record["argv"] = argv  # by which a checkpoint knows whose it is
    if boot.runtime:
        control = f"{boot.runtime}/{layout.CONTROL}"
        if not files.exists(control):
            os.mkdir(control, 0o700)
        boot.env = {**dict.fromkeys(layout.CONTROL_NAMES, control), **boot.env}
    if not boot.restored and not numbers.is_placeholder(argv):
        numbers.reach(boot.floor - 1)


def _freezer(boot: Boot, mask: set[int]) -> Freezer:
    """Return who freezes the workload at the pod's end, and knows of it if somebody else did."""
    from workspace_agent.supervise.freezer import Freezer

    argv = _python(boot, "__main__.py", "--quiet", "checkpoint")
    held = (boot.argv or boot.command) == []  # nothing of its own to go on with
    wanted = boot.freeze and not held and _may_freeze()
    return Freezer(argv, boot.environ, mask, boot.runtime, at_term=wanted)


def _may_freeze() -> bool:
    """Say whether it is of any use to try: `doctor --for checkpoint` says more."""
    fields = dict(
        line.split(b":\t", 1) for line in (files.read("/proc/self/status") or b"").splitlines()
        if b":\t" in line
    )  # fmt: skip
    rights = int(fields.get(b"CapEff", b"0"), 16)
    return bool(rights & _CHECKPOINT_RIGHTS) and fields.get(b"Seccomp", b"0") == b"0"


def _watcher(boot: Boot) -> list[str]:
    """Return the command of the watcher."""
    return _python(boot, "watcher.py", boot.runtime)


def _python(boot: Boot, script: str, *words: str) -> list[str]:
    """Return the command of a script of ours, in the private environment where that is made."""
    venv = f"{boot.root}/venv"
    whole = files.exists(f"{venv}/{layout.VENV_MARKER}")
    python = [f"{venv}/bin/python", "-I"] if whole else [sys.executable, "-I", "-S"]
    return [*python, f"{boot.root}/workspace_agent/{script}", *words]


def _not_started(boot: Boot, name: str, error: int) -> None:
    word = "was not found" if error == errno.ENOENT else "cannot be executed"
    what, why = f"`{name}` {word}", os.strerror(error)
    boot.say(f"{what}: {why}")
    boot.problems.insert(0, {"slug": "workload.not-started", "what": what, "why": why,
                             "fix": "check the container's command", "where": ""})  # fmt: skip


def _record(boot: Boot, phase: str) -> None:
    if not boot.runtime:
        return
    facts = {"schema": 1, "pid": os.getpid(), "started": runtime.started("self"),
             "phase": phase, "root": boot.root, **boot.record}  # fmt: skip
    try:
        files.commit(f"{boot.runtime}/{layout.AGENT}", dumps(facts) + "\n")
    except OSError:
        return  # a full /run: the workload does not need our record


def _terminate_log(boot: Boot, phase: str, code: int | None) -> None:
    """Leave one JSON line for the kubelet; problems are dropped from the end until it fits."""
    if not files.exists(boot.termination_log):
        return
    problems = list(boot.problems)
    while True:
        line = dumps({"agent": "workspace-agent", "phase": phase, "exit_code": code,
                      "problems": problems})  # fmt: skip
        if len(line) < layout.TERMINATION_LOG_BYTES or not problems:
            break
        problems.pop()
    try:
        files.write_in_place(boot.termination_log, line + "\n")
    except OSError:
        return  # not ours to write: the exit code says the rest


def _lock(boot: Boot) -> int:
    """Take the runtime folder; returns who else holds it, or 0.

    PID 1 is alone by definition and takes no lock; its record tells the others.
    """
    if os.getpid() == 1 or not boot.runtime:
        return 0
    import fcntl

    fd = os.open(f"{boot.runtime}/{layout.LOCK}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.read(fd, 16).strip()
        return int(holder) if holder.isdigit() else -1
    os.truncate(fd, 0)
    os.write(fd, b"%d\n" % os.getpid())
    boot.lock = fd  # the lock lives as long as the descriptor
    return _recorded(boot.runtime)


def _recorded(folder: str) -> int:
    """Return the agent that the record names, if it lives; else 0."""
    words = (files.read(f"{folder}/{layout.AGENT}") or b"").replace(b",", b"").split()
    try:
        pid, started = (int(words[words.index(key) + 1]) for key in (b'"pid":', b'"started":'))
    except (ValueError, IndexError):
        return 0
    return pid if started and runtime.started(pid) == started else 0


def _adopt_orphans() -> None:
    """Become the reaper of what the workload leaves behind, where PID 1 is somebody else."""
    if os.getpid() == 1:
        return
    import ctypes  # 4 ms; a container's PID 1 never needs it

    PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # noqa: N806 - linux/prctl.h
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    wish = os.environ.get("WORKSPACE_AGENT_PARENT_DEATH", "")
    if wish.isascii() and wish.isdigit():
        libc.prctl(PR_SET_PDEATHSIG, int(wish), 0, 0, 0)


def _untouched(boot: Boot, mask: set[int]) -> int:
    """Become the workload, with the environment as it is."""
    _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
    for number in (_signal.SIGPIPE, _signal.SIGXFSZ):
        _signal.signal(number, _signal.SIG_DFL)
    argv = boot.argv or HOLD
    error = spawn.execute(argv, boot.environ)
    _not_started(boot, argv[0], error)
    return exitcode.not_started(error)

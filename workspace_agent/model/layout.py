"""Every path we own, and why it is where it is.

Strings, not `Path`: this module is on the fast path, and `pathlib` alone costs 12 ms there.
"""

from __future__ import annotations

# This boot only. /run is a tmpfs or the container's own layer, so nothing here outlives the pod.
RUNTIME = "/run/workspace-agent"

# The image's own profile, laid over the selected one.
IMAGE_PROFILE = "/etc/workspace-agent/profile.toml"

# In the container's own layer: Python environments. Images name it on their PATH, so that
# `kubectl exec` and its like see what the workload sees.
ENVIRONMENTS = "/opt/workspace-env"

# In the container's own layer: the home that passwd named before we led it to the volume.
IMAGE_HOME = "/etc/workspace-agent/image-home"

# In the container's own layer: when its first workload was started.
BEGAN = "/etc/workspace-agent/began"

# Beside the agent itself: the names of all files of the image, by folder.
IMAGE_FILES = "image-files"

# The kernel's, and what is of this boot alone: nobody's files.
KERNELS = ("/proc", "/sys", "/dev", "/run")

# On the volume; 0700, since reports name the user's files.
STATE = ".workspace-agent"

PROFILE_IN_STATE = "profile.toml"
ATTEMPTS_IN_STATE = "attempts"
STAMPS_IN_STATE = "stamps"
SEEDED_IN_STATE = "seeded"  # a home was made here once: a missing marker means "again"
BOOTS_IN_STATE = "boots"
VOLUME_IN_STATE = "volume.json"  # which volume this is, whatever it is mounted as
BACKUP_IN_STATE = "backup"  # what was replaced in a home, by day and boot
DEFAULTS_IN_STATE = "defaults"  # what each default was when it came, one manifest for each image
BESIDE_IN_STATE = "defaults-new"  # defaults that would have replaced what the user changed
REPLAY_IN_STATE = "replay"  # Python environments, packed, and what was installed by hand
IGNORE_IN_STATE = "ignore"  # what nobody would miss, lines as in a .gitignore
CAPTURED_IN = "captured.in"  # there: what was installed by hand, for people to edit
CAPTURED_LOCK = "captured.lock"  # there: the same, exact
CAPTURED_JSON = "captured.json"  # there: which lines are ours, what needs what, what else there is
RESCUE_IN_STATE = "rescue"  # what was written outside the volume, by owner
RESCUE_WANTED = "wanted"  # there: a boot has something to put back
CHECKPOINTS_IN_STATE = "checkpoints"  # frozen processes, by workload
CHECKPOINTS_WANTED = "wanted"  # there: a boot has something to restore

# Runtime files, each with one writer.
ENV_SH = "env.sh"  # what shells source
ENV_FISH = "env.fish"  # the same for fish
SECRETS_SH = "secrets.sh"  # 0600: the secret part of env.sh
SECRETS_FISH = "secrets.fish"  # 0600: the same for fish
ENVIRON = "environ"  # 0600: the workload's environment, NUL-separated as in /proc
STATUS = "status.json"  # the report of this boot
AGENT = "agent.json"  # who runs, and how it ended
BANNER = "banner"  # what a login shell shows when something is not right
CARDS = "cards.json"  # the GPUs, asked for once in a boot
UV_LOCK = "uv-lock.txt"  # 0600: what uv.lock asks for, as lines
WATCH = "watch.json"  # what is outside the volume, as the watcher saw it last
RESCUE_RUN = "rescue.run"  # the name of what this container keeps on the volume
RESCUE_LOCK = "rescue.lock"  # one rescue at a time
FROZEN = "frozen"  # the workload's process, which ended because it is in a checkpoint
FREEZING = "freezing.json"  # what a checkpoint that is being made has done so far
FREEZE_LOCK = "freezing.lock"  # one at a time
SUCCESSOR = "successor"  # the process that took the place of a placeholder
RESTORED = "restored.json"  # which checkpoint the workload comes from
CONTROL = "control"  # 0700: where the workload and a checkpoint meet
CHECKPOINTED = "checkpointed"  # this workload has a checkpoint that was made here
RESTORING = "restoring.json"  # a restore that is under way, and the numbers of its processes
RESTORING_PID = "restoring.pid"  # the first of them, by CRIU
UNDO = "restoring.undo"  # what a restore has put into the container's layer
SCRIPTS = "scripts.json"  # which setup scripts this boot has run

# Under which names the workload hears of the control folder; the second and third are Dynamo's.
CONTROL_NAMES = ("WORKSPACE_CHECKPOINT_DIR", "SNAPSHOT_CONTROL_DIR", "DYN_SNAPSHOT_CONTROL_DIR")

LOCK = "lock"  # one agent per runtime folder
LOGS = "logs"

# The kubelet reads the last 4096 bytes and needs one line; it is a bind mount.
TERMINATION_LOG_BYTES = 4096

# Where the private environment says it is whole; written last.
VENV_MARKER = "complete"


def began(uid: int) -> str:
    """Return where this layer's first start is noted; only root can write into /etc."""
    return BEGAN if uid == 0 else f"/var/tmp/workspace-agent-{uid}/began"


def state(volume: str) -> str:
    """Return the state folder of *volume*."""
    return f"{volume}/{STATE}"

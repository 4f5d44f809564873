# shellcheck shell=bash
# Common part of the container harness (sourced by podman, buildah, base-image, build-image).
#
# What it solves: on an ordinary Docker/Podman host nothing has to be done, the real tool is run unchanged.
# In a CI sandbox (root, but CAP_SYS_RESOURCE dropped and cgroup v1/hybrid mounted) podman 4/crun fail with
#   "crun: setrlimit `RLIMIT_NOFILE`: Operation not permitted"               (ulimit above the hard limit)
#   "crun: cgroups in hybrid mode not supported"                             (cgroup v1 + v2 both mounted)
#   "crun: setrlimit (RLIM_MEMLOCK): Operation not permitted"                (device-cgroup BPF program)
# so each tool is run inside one pinned, private mount namespace where /sys/fs/cgroup is plain cgroup2, with a
# generated containers.conf (host network, ulimits at the present hard limit), a generated
# storage.conf (storage of its own: nothing of another podman user is seen or touched) and an OCI runtime shim
# (oci-runtime) that clips what the sandbox cannot grant out of config.json, which also covers `buildah bud`
# and `podman kube play`.
#
# Settings (environment):
#   CTR_MODE   auto (default) | plain | sandbox
#   CTR_STATE  where images/layers are cached   (default ${XDG_CACHE_HOME:-$HOME/.cache}/ctr-harness)
#   CTR_RUN    where run-time state is kept     (default /run/ctr-harness; must be a local file system)
set -u
CTR_HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CTR_STATE=${CTR_STATE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/ctr-harness}
CTR_RUN=${CTR_RUN:-/run/ctr-harness}

ctr_die() { echo "ctr-harness: $*" >&2; exit 125; }

# The real tool: the first on PATH that is not in this directory.
ctr_real() {
	local d
	local IFS=:
	for d in $PATH /usr/bin /usr/local/bin; do
		[ -x "$d/$1" ] && [ "$(cd "$d" && pwd)" != "$CTR_HERE" ] && { echo "$d/$1"; return 0; }
	done
	return 1
}

ctr_has_cap() { # ctr_has_cap BIT: effective set of this process
	local eff
	eff=$(sed -n 's/^CapEff:[[:space:]]*//p' /proc/self/status)
	(( (0x$eff >> $1) & 1 ))
}

ctr_mode() {
	case ${CTR_MODE:-auto} in
	plain | sandbox) echo "$CTR_MODE"; return ;;
	esac
	if [ "$(id -u)" != 0 ]; then echo plain; return; fi       # rootless podman/docker host
	if ! ctr_real podman >/dev/null; then echo plain; return; fi
	if ctr_has_cap 24 && [ "$(stat -f -c %T /sys/fs/cgroup 2>/dev/null)" = cgroup2fs ]; then echo plain; else echo sandbox; fi
}

ctr_write_conf() {
	local hard_n hard_p
	hard_n=$(ulimit -Hn); hard_p=$(ulimit -Hu)
	[ "$hard_n" = unlimited ] && hard_n=1048576
	[ "$hard_p" = unlimited ] || [ "$hard_p" -gt 32768 ] && hard_p=32768 # buildah lowers itself to 32768 before its RUN steps
	mkdir -p "$CTR_STATE/storage" "$CTR_RUN/storage" "$CTR_RUN/libpod"
	cat >"$CTR_RUN/containers.conf.$$" <<-CONF
		[containers]
		# "enabled" although nothing is limited: \`podman kube play\` refuses pods without a cgroup; the shim
		# takes every limit out of config.json
		cgroups = "enabled"
		cgroupns = "host"
		netns = "host"
		default_ulimits = ["nofile=$hard_n:$hard_n", "nproc=$hard_p:$hard_p"]
		log_driver = "k8s-file"
		[engine]
		cgroup_manager = "cgroupfs"
		events_logger = "file"
		tmp_dir = "$CTR_RUN/libpod"
		# the name stays "crun": podman decides by it whether cgroups may be off
		runtime = "crun"
		[engine.runtimes]
		crun = ["$CTR_HERE/oci-runtime"]
	CONF
	mv "$CTR_RUN/containers.conf.$$" "$CTR_RUN/containers.conf"
	cat >"$CTR_RUN/storage.conf.$$" <<-CONF
		[storage]
		driver = "overlay"
		graphroot = "$CTR_STATE/storage"
		runroot = "$CTR_RUN/storage"
	CONF
	mv "$CTR_RUN/storage.conf.$$" "$CTR_RUN/storage.conf"
}

# One mount namespace for all calls, so that `podman run -d`, `exec`, `cp`, `rm` of different calls see one
# another's mounts, and nothing is mounted in the caller's namespace but the pin itself.
ctr_ns_alive() { [ -e "$CTR_RUN/ns/mnt" ] && [ "$(stat -f -c %T "$CTR_RUN/ns/mnt" 2>/dev/null)" = nsfs ]; }

ctr_up() {
	mkdir -p "$CTR_RUN" || ctr_die "cannot write $CTR_RUN"
	(
		flock 9
		[ -s "$CTR_RUN/containers.conf" ] && [ -s "$CTR_RUN/storage.conf" ] &&
			grep -qF "\"$CTR_HERE/oci-runtime\"" "$CTR_RUN/containers.conf" &&
			grep -qF "\"$CTR_STATE/storage\"" "$CTR_RUN/storage.conf" || ctr_write_conf
		ctr_ns_alive && exit 0
		mkdir -p "$CTR_RUN/ns"
		mountpoint -q "$CTR_RUN/ns" || { mount --bind "$CTR_RUN/ns" "$CTR_RUN/ns" && mount --make-private "$CTR_RUN/ns"; } || exit 1
		: >>"$CTR_RUN/ns/mnt"
		# "slave": later mounts of the host are seen inside, none of ours is seen outside
		# shellcheck disable=SC2016 # expanded inside
		unshare --mount="$CTR_RUN/ns/mnt" --propagation slave bash -ec '
			if [ "$(stat -f -c %T /sys/fs/cgroup)" != cgroup2fs ]; then
				umount -R /sys/fs/cgroup 2>/dev/null || umount -l /sys/fs/cgroup
				mount -t cgroup2 cgroup2 /sys/fs/cgroup
			fi' 9>&-
	) 9>"$CTR_RUN/lock" || ctr_die "cannot make the private mount namespace"
}

ctr_down() { # everything this harness mounted or runs; --purge also drops the cached images
	[ "$(ctr_mode)" = sandbox ] || return 0
	if ctr_ns_alive; then
		ctr_tool podman rm --force --all --time 0 >/dev/null 2>&1
		ctr_tool podman pod rm --force --all >/dev/null 2>&1
		ctr_tool podman umount --all >/dev/null 2>&1
		# cgroups podman left in the v2 hierarchy of this machine
		nsenter --mount="$CTR_RUN/ns/mnt" -- find /sys/fs/cgroup/libpod_parent -depth -type d -exec rmdir {} + 2>/dev/null
		umount "$CTR_RUN/ns/mnt"
	fi
	mountpoint -q "$CTR_RUN/ns" && umount "$CTR_RUN/ns"
	rm -rf --one-file-system "$CTR_RUN"
	if [ "${1:-}" = --purge ]; then rm -rf --one-file-system "$CTR_STATE"; fi
}

# ctr_tool NAME ARGS...: run podman/buildah the way this machine needs it
ctr_tool() {
	local real name=$1
	shift
	if ! real=$(ctr_real "$name"); then
		# a Docker host: its command line is the same for run, build, exec, logs, stop, rm
		if [ "$name" != podman ] || [ "${1:-}" = kube ] || ! real=$(ctr_real docker); then
			ctr_die "$name is not installed"
		fi
	fi
	if [ "$(ctr_mode)" = plain ]; then "$real" "$@"; return; fi
	ctr_up
	CONTAINERS_CONF="$CTR_RUN/containers.conf" CONTAINERS_STORAGE_CONF="$CTR_RUN/storage.conf" \
		BUILDAH_ISOLATION="${BUILDAH_ISOLATION:-chroot}" BUILDAH_RUNTIME="$CTR_HERE/oci-runtime" \
		nsenter --mount="$CTR_RUN/ns/mnt" --wdns="$PWD" -- "$real" "$@"
}

#!/bin/bash
# A machine of our own in two seconds, without KVM: user-mode Linux, for real NFS and power cuts.
#   umlab.sh setup                     fetch and unpack what is needed into $UMLAB
#   umlab.sh nfs JOB [SECONDS]         run the bash script JOB inside: /mnt/nfs is a kernel NFS mount,
#                                      /mnt/exp its server's side; VERS=3 or 4.2, RTT in ms (1)
#   umlab.sh power JOB CHECK [SECONDS] run JOB inside with a fresh ext4 at /mnt/loc, cut the power
#                                      SECONDS after its end, and run the shell text CHECK here
#                                      with $IMG, where what survived is mounted
# Inside, this machine's root is the root, read-only; /mnt/out is $UMLAB/out, which is in /tmp if
# not set. One virtual CPU with slow system calls: good for requests, crashes, and ratios at
# 5 ms, not for CPU times. Needs root and apt-get install nfs-kernel-server nfs-common rpcbind kmod.
set -eu

argument() { tr ' ' '\n' </proc/cmdline | sed -n "s/^$1=//p" | tail -1; }

setup() {
	cd "$lab"
	apt-get download -q user-mode-linux
	dpkg -x user-mode-linux_*.deb root
	rm -f user-mode-linux_*.deb
	version=$(ls root/usr/lib/uml/modules)
	mkdir -p modules/lib/modules
	ln -sfn "../../../root/usr/lib/uml/modules/$version" "modules/lib/modules/$version"
	depmod -b modules "$version"
	for tool in modprobe rpc.nfsd rpc.mountd rpcbind exportfs mount.nfs tc; do
		command -v "$tool" >/dev/null || echo "missing: $tool"
	done
	echo "ready: $("$uml" --version)"
}

# Starts the machine on a fresh disk, as a process group of its own whose id is in $machine.
start() { # start MODE JOB
	disk=$lab/disk.$$.img
	trap 'rm -f "$disk"' EXIT
	truncate -s "${DISK:-2G}" "$disk"
	mkfs.ext4 -q -F "$disk"
	mkdir -p "$lab/bin"
	cp "$me" "$lab/bin/init"
	rm -f "$lab/out/ready"
	setsid "$uml" mem="${MEM:-1G}" ubda="$disk" rootfstype=hostfs rootflags=/ ro \
		init="$lab/bin/init" mode="$1" job="$(readlink -f "$2")" lab="$lab" \
		vers="${VERS:-4.2}" rtt="${RTT:-1}" con=null con0=fd:0,fd:1 quiet \
		</dev/null >"$lab/out/console" 2>&1 &
	machine=$!
}

cut_power() { # every process of the machine, at once
	kill -KILL -- "-$machine" 2>/dev/null || true
	wait "$machine" 2>/dev/null || true
}

nfs() { # nfs JOB [SECONDS]
	start nfs "$1"
	for _ in $(seq "$((${2:-600} * 10))"); do
		kill -0 "$machine" 2>/dev/null || break
		sleep 0.1
	done
	cut_power
	cat "$lab/out/console"
	grep -q '^job ended with 0' "$lab/out/console"
}

power() { # power JOB CHECK [SECONDS]
	start power "$1"
	for _ in $(seq 3000); do
		[ -f "$lab/out/ready" ] && break
		sleep 0.1
	done
	sleep "${3:-0}"
	cut_power
	cat "$lab/out/console"
	image=$lab/image.$$
	mkdir "$image"
	mount -o loop "$disk" "$image"
	code=0
	IMG=$image bash -c "$2" || code=$?
	umount "$image"
	rmdir "$image"
	return "$code"
}

serve() { # the server and its mount, with the delay between them
	mount -t tmpfs v /var/lib/nfs
	mkdir -p /var/lib/nfs/{v4recovery,rpc_pipefs,sm,sm.bak}
	touch /var/lib/nfs/{etab,rmtab,state}
	for module in nfsd nfs nfsv3 nfsv4 sch_netem; do
		modprobe -d "$lab/modules" "$module"
	done
	mount -t nfsd nfsd /proc/fs/nfsd
	ip link set lo up
	mount -t ext4 /dev/ubda /mnt/exp
	echo 10 >/proc/fs/nfsd/nfsv4leasetime
	echo 10 >/proc/fs/nfsd/nfsv4gracetime
	exportfs -o rw,no_root_squash,insecure,no_subtree_check,fsid=0 127.0.0.1:/mnt/exp
	rpcbind -w
	rpc.mountd 2>/dev/null
	rpc.nfsd 32
	echo 1 >/proc/fs/nfsd/v4_end_grace
	if [ "$(argument vers)" = 3 ]; then
		mount -t nfs -o vers=3,nolock 127.0.0.1:/mnt/exp /mnt/nfs
	else
		mount -t nfs -o vers="$(argument vers)" 127.0.0.1:/ /mnt/nfs
	fi
	tc qdisc add dev lo root netem delay "$(awk "BEGIN{print $(argument rtt)/2}")ms" limit 100000
}

inside() { # we are the machine's init
	set +e
	export TMPDIR=/run
	export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
	mount -t proc proc /proc
	mount -t sysfs sys /sys
	mount -t tmpfs run /run
	mount -t tmpfs mnt /mnt
	lab=$(argument lab)
	mkdir -p /mnt/{exp,out,nfs,loc} /run/nfs
	mount -t hostfs out /mnt/out -o "$lab/out"
	if [ "$(argument mode)" = power ]; then
		mount -t ext4 /dev/ubda /mnt/loc
	else
		serve
	fi
	bash "$(argument job)"
	echo "job ended with $?"
	if [ "$(argument mode)" = power ]; then
		echo ready >/mnt/out/ready
		sleep 1000
	fi
	umount -l /mnt/nfs
	sync
	echo o >/proc/sysrq-trigger
	sleep 5
}

if [ $$ = 1 ]; then
	inside
	exit
fi
me=$(readlink -f "$0")
lab=${UMLAB:-${TMPDIR:-/tmp}/umlab-$(id -u)}
mkdir -p "$lab/out"
lab=$(readlink -f "$lab")
uml=$lab/root/usr/bin/linux.uml
case "${1:-}" in
setup | nfs | power) "$@" ;;
*)
	sed -n '2,13s/^# //p' "$me"
	exit 2
	;;
esac

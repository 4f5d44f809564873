#!/bin/bash
# The peer: a persistent-workspace init script as pods run it today, written for this benchmark.
# Same behaviour as the script that the agent replaces: home copied once, a marker, a PATH line.
set -e
volume=${WORKSPACE_VOLUME:-/workspace}
if [ -d "$volume" ]; then
	home=$volume/home
	mkdir -p "$home"
	if [ ! -f "$home/.packet-init" ]; then
		cp -r "$HOME"/. "$home"/ 2>/dev/null || true
		touch "$home/.packet-init"
	fi
	if ! grep -q workspace-path "$home/.bashrc" 2>/dev/null; then
		printf '%s\n' '# workspace-path' "export PATH=\"$volume/bin:\$PATH\"" >>"$home/.bashrc"
		mkdir -p "$volume/bin"
	fi
else
	echo "no $volume: nothing will survive" >&2
fi
exec "$@"

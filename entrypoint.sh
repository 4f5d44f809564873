#!/bin/sh
# Set up the workspace, then run CMD and be its init:  entrypoint.sh CMD...
# POSIX sh and no forks on the way to Python; whatever is missing, CMD runs all the same.

if [ "${1-}" = -- ]; then shift; fi

# The escape hatch: CMD, untouched.
if [ "${WORKSPACE_AGENT_DISABLE-}" = 1 ]; then
	[ $# -gt 0 ] || set -- sleep infinity
	exec "$@"
fi

here=$0
if [ -L "$here" ]; then here=$(readlink -f "$here"); fi
case $here in
*/*) here=${here%/*} ;;
*) here=. ;;
esac

# The private interpreter once it is whole; until then any Python that is new enough. The usual
# places come before PATH, which may begin with a folder of the volume: nothing there runs as us.
new_enough() { "$1" -I -S -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1; }

python=
if [ -e "$here/venv/complete" ] && [ -x "$here/venv/bin/python" ]; then
	python=$here/venv/bin/python
else
	volume=${WORKSPACE_VOLUME:-/workspace}
	for name in /usr/local/bin/python3 /usr/bin/python3 /opt/conda/bin/python3 \
		python3 python3.14 python3.13 python3.12 python3.11 python3.10; do
		found=$(command -v "$name") || continue
		case $found in "$volume"/*) continue ;; esac
		if new_enough "$found"; then
			python=$found
			break
		fi
	done
fi

if [ -n "$python" ]; then
	# Bytecode of a clone goes beside the private environment, not among the sources; an image has
	# its own beside them.
	if [ -d "$here/workspace_agent/__pycache__" ]; then
		exec "$python" -I -S "$here/workspace_agent/pid1.py" "$@"
	fi
	exec "$python" -I -S -X "pycache_prefix=$here/venv/pycache" \
		"$here/workspace_agent/pid1.py" "$@"
fi

echo "workspace-agent: no Python 3.10 or newer was found; CMD runs without the workspace" >&2
[ $# -gt 0 ] || set -- sleep infinity
exec "$@"

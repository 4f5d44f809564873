"""What entrypoint.sh runs, as `python -I -S pid1.py CMD...`: no site, no environment, no cwd."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

try:
    from workspace_agent.start import main
except Exception as error:
    # A damaged install must not keep a pod from its workload.
    os.write(2, f"workspace-agent: cannot start ({error}); CMD runs without it\n".encode())
    argv = sys.argv[1:] or ["sleep", "infinity"]
    os.execvp(argv[0], argv)

main(sys.argv[1:])

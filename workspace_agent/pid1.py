"""What entrypoint.sh runs, as `python -I -S pid1.py CMD...`: no site, no environment, no cwd."""

import marshal
import posix
import sys

root = __file__.rpartition("/workspace_agent/")[0]
if not root.startswith("/"):
    root = f"{posix.getcwd()}/{root}"
sys.path.insert(0, root)

try:  # a baked image has all of the fast path in one file: see bundle.py
    with open(f"{root}/bundle.{sys.implementation.cache_tag}", "rb") as handle:
        loader, codes = marshal.load(handle)
    exec(loader, {"__name__": "workspace_agent.bundle", "ROOT": root, "CODES": codes})
except Exception:
    pass  # there is none, or it is damaged: the modules' own files serve

try:
    from workspace_agent.start import main
except Exception as error:
    # A damaged install must not keep a pod from its workload.
    import os

    os.write(2, f"workspace-agent: cannot start ({error}); CMD runs without it\n".encode())
    argv = sys.argv[1:] or ["sleep", "infinity"]
    os.execvp(argv[0], argv)

main(sys.argv[1:])

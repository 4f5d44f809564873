"""A workload at a keyboard: says `ready`, waits for a file if told to, and answers each line."""

import os
import signal
import sys
import time

signal.signal(signal.SIGINT, signal.SIG_DFL)
signal.signal(signal.SIGCONT, lambda *_: os.write(1, b"resumed\n"))
print("ready", flush=True)
while sys.argv[1:] and not os.path.exists(sys.argv[1]):
    time.sleep(0.01)
while line := sys.stdin.readline():
    print("got", line, flush=True)
sys.exit(9)

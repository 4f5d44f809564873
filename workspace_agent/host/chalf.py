"""The C halves of `os` and `signal`, for PID 1.

The Python half of `os` costs a bare interpreter 2 ms more (abstract base classes, for `environ`),
that of `signal` 12 ms (enums). Where `os` is loaded already it serves: one `os` for a test's fake.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    import signal
else:
    import _signal as signal

    os = sys.modules.get("os")
    if os is None:
        from workspace_agent.host import lean as os

__all__ = ["os", "signal"]

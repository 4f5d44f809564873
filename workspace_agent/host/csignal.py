"""The C half of `signal`. The Python half wraps numbers into enums, which costs 12 ms."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
else:
    import _signal

signal = _signal

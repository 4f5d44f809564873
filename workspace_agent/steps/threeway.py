"""Whose change is it? The rule of dpkg's configuration files, for one default. Pure."""

from __future__ import annotations

from enum import Enum


class Verdict(Enum):
    """What became of one default, between the image that made the home and this one."""

    SAME = "same"  # the home has what this image has
    CHANGED = "changed"  # by the image alone: may be replaced
    YOURS = "yours"  # changed by the user alone: stays
    CONFLICT = "conflict"  # changed by both: stays, and the image's goes beside
    DELETED = "deleted"  # by the user: does not come back
    NEW = "new"  # in this image: may be added
    GONE = "gone"  # from this image: stays
    UNKNOWN = "unknown"  # not as in this image, and nobody knows why


# What a new image asks of a home.
ASKS = (Verdict.CHANGED, Verdict.NEW, Verdict.CONFLICT)


def judge(base: object, new: object, mine: object, *, known: bool = True) -> Verdict:
    """Compare a default as it came (*base*), as this image has it, and as the home has it.

    Each is any value that equals another exactly when the content does, None where there is
    nothing. Without a base of the whole home (not *known*) only what is the same can be told.
    """
    if mine == new:
        return Verdict.SAME
    if not known:
        return Verdict.UNKNOWN
    if new is None:
        return Verdict.GONE
    if mine is None:
        return Verdict.NEW if base is None else Verdict.DELETED
    if new == base:
        return Verdict.YOURS
    return Verdict.CHANGED if mine == base else Verdict.CONFLICT

"""What is saved: from a folder that plays the container, to a volume."""

from __future__ import annotations

from rescued import World


def test_what_is_saved_can_be_read_by_its_line(twin: World) -> None:
    twin.write("/home/a.py", "print()\n").chmod(0o640)
    twin.write("/home/empty", "")
    (twin.top / "home/link").symlink_to("a.py")
    outcome = twin.save("/home", "/home/a.py", "/home/empty", "/home/link")
    saved = twin.chain().saved

    assert (4, 0, [], None) == (outcome.saved, outcome.unchanged, outcome.left, outcome.problem)
    assert (b"print()\n", b"") == (twin.bytes("/home/a.py"), twin.bytes("/home/empty"))
    assert (0o640, "a.py", "d") == (
        saved["/home/a.py"].mode, saved["/home/link"].to, saved["/home"].type,
    )  # fmt: skip
    assert (twin.volume / ".workspace-agent/rescue/wanted").exists()

"""What was saved comes back: never over something newer, never through a link."""

from __future__ import annotations

from collections.abc import Callable

from rescued import World

from workspace_agent.model.outcome import Ok, Todo


def test_a_fresh_container_gets_back_what_the_last_one_had(twin: World, tree: Callable) -> None:
    twin.write("/home/deep/a.py", "print()\n").chmod(0o640)
    (twin.top / "home/link").symlink_to("deep/a.py")
    before = tree(twin.top)
    twin.save("/home", "/home/deep", "/home/deep/a.py", "/home/link")
    twin.dies()
    first = twin.step().check()
    problem = twin.step().apply(lambda _: None)

    assert (Todo, None, Ok("4 restored")) == (type(first), problem, twin.step().check())
    assert before == tree(twin.top)

"""What a restored workload hears of itself."""

from __future__ import annotations

from workspace_agent.checkpoint import identity

# As in a container with the network 10.88.0.0/16; every address is there twice.
TRIE = """\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 10.88.0.0/16 2 0 2
        |-- 10.88.0.0
           /16 link UNICAST
        |-- 10.88.0.7
           /32 host LOCAL
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.1
           /32 host LOCAL
        |-- 127.255.255.255
           /32 link BROADCAST
"""
INET6 = """\
00000000000000000000000000000001 01 80 10 80       lo
fe800000000000000042acfffe110002 02 40 20 80     eth0
"""


def test_addresses_are_our_own_without_the_loopbacks() -> None:
    assert ["10.88.0.7", "fe80::42:acff:fe11:2"] == identity.addresses(TRIE, INET6)


def test_without_the_two_files_there_are_no_addresses() -> None:
    assert [] == identity.addresses("", "")


def test_the_delta_has_new_changed_and_gone_variables_and_no_other() -> None:
    old = {"SAME": "1", "CHANGED": "old", "GONE": "x"}
    new = {"SAME": "1", "CHANGED": "new", "NEW": "y"}

    assert {"CHANGED": "new", "GONE": None, "NEW": "y"} == identity.delta(old, new)


def test_nothing_has_changed_where_it_was_observed() -> None:
    found = identity.renewed(identity.observe(), "a", 1, {})

    assert [] == found["changed"]


def test_what_is_another_is_named_and_clocks_are_compared() -> None:
    here = identity.observe()
    then = {**here, "hostname": "elsewhere", "monotonic": float(str(here["monotonic"])) + 1000}
    found = identity.renewed(then, "a", 3, {"TOKEN": "new"})

    assert ["hostname"] == found["changed"]
    assert -1000 == round(float(str(found["monotonic_jump"])))
    assert (3, "a", {"TOKEN": "new"}) == (
        found["generation"], found["attempt"], found["environ"]
    )  # fmt: skip


def test_a_record_without_clocks_gives_no_jump() -> None:
    found = identity.renewed({}, "a", 1, {})

    assert (None, None) == (found["wall_jump"], found["monotonic_jump"])


def test_two_restores_of_one_artifact_have_different_seeds() -> None:
    then = identity.observe()

    assert 2 == len({str(identity.renewed(then, "a", 1, {})["seed"]) for _ in range(2)})

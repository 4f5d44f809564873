from __future__ import annotations

import pytest

from workspace_agent.steps import renderers

RECIPE = {
    "set": {"WORKSPACE_VOLUME": "/workspace", "MY_TOKEN": "hush", "bad-name": "x"},
    "default": {"EDITOR": "vim -u /x"},
    "prepend": {"PATH": ["/workspace/bin"]},
    "home": "/workspace/home",
    "image_home": "/root",
    "allow": ["HF_*"],
    "secret": ["*TOKEN*"],
}

UNSAFE = [
    "", " ", "a b", "a#b", "a'b", 'a"b', "a\\b", "a\nb", "a$b", "a`b", "a;b", "a&b", "a|b", "a*b",
    "a!b", "a(b)", "é", "a\x00b", "a\tb", "\udcff", "a{b}", "a<b", "a?b", "[a]",
]  # fmt: skip

SAFE = [
    "x",
    "/workspace/bin:/usr/bin",
    "3.11",
    "a=b",
    "user@host",
    "50%",
    "a,b",
    "C++",
    "~/x",
    "-1",
]


# What each form carries


@pytest.mark.parametrize("value", SAFE)
def test_a_plain_value_stands_in_every_form(value: str) -> None:
    assert [f"NAME={value}"] == renderers.pam({"NAME": value})
    assert [f"SetEnv NAME={value}"] == renderers.sshd({"NAME": value})


@pytest.mark.parametrize("value", UNSAFE, ids=ascii)
def test_a_value_that_a_form_cannot_carry_is_left_out(value: str) -> None:
    values = {"BEFORE": "1", "NAME": value, "AFTER": "2"}

    assert ["BEFORE=1", "AFTER=2"] == renderers.pam(values)
    assert ["SetEnv BEFORE=1 AFTER=2"] == renderers.sshd(values)


def test_sshd_gets_one_line_or_none() -> None:
    assert ["SetEnv A=1 B=2"] == renderers.sshd({"A": "1", "B": "2"})
    assert [] == renderers.sshd({"A": "not plain"})
    assert [] == renderers.sshd({})


def test_sudo_gets_the_path_and_what_it_lets_through() -> None:
    expected = [
        'Defaults secure_path="/workspace/bin:/usr/bin"',
        'Defaults env_keep += "HF_* WORKSPACE_VOLUME"',
    ]

    assert expected == renderers.sudoers("/workspace/bin:/usr/bin", ["HF_*", "WORKSPACE_VOLUME"])


@pytest.mark.parametrize(
    "entry", ["", ".", "relative/bin", "/a b", '/a"b', "/a\\b", "/a#b", "/a=b", "/a\nb", "/\udcff"]
)
def test_a_folder_that_could_break_sudo_is_left_out(entry: str) -> None:
    path = f"/usr/local/bin:{entry}:/usr/bin"

    assert ['Defaults secure_path="/usr/local/bin:/usr/bin"'] == renderers.sudoers(path, [])


@pytest.mark.parametrize("name", ['A"B', "A B", "A\nB", "A\\B", "A#B", "\udcff"], ids=ascii)
def test_a_name_that_could_break_sudo_is_left_out(name: str) -> None:
    expected = ['Defaults secure_path="/bin"', 'Defaults env_keep += "A B_*"']

    assert expected == renderers.sudoers("/bin", ["A", name, "B_*"])


def test_sudo_is_left_alone_when_nothing_is_plain() -> None:
    assert [] == renderers.sudoers("relative:", ["not plain"])


def test_a_world_readable_file_holds_our_own_values_and_no_secret() -> None:
    env = {
        "WORKSPACE_VOLUME": "/workspace", "MY_TOKEN": "hush", "bad-name": "x",
        "EDITOR": "vim", "PATH": "/workspace/bin:/bin", "HF_HOME": "/hf", "HOME": "/root",
    }  # fmt: skip
    expected = {"WORKSPACE_VOLUME": "/workspace", "EDITOR": "vim", "PATH": "/workspace/bin:/bin"}

    assert expected == renderers.own_values(RECIPE, env)


# fish


def fish(recipe, base=None) -> str:
    """Return env.fish."""
    return renderers.fish(recipe, base or {}, "/run")[0]


def test_fish_reads_values_in_single_quotes() -> None:
    recipe = {**RECIPE, "set": {"A": 'it\'s $HOME (x) \\ "y"'}, "default": {}, "prepend": {}}
    line = "if not set -q A; set -gx A 'it\\'s $HOME (x) \\\\ \"y\"'; end"

    assert line == fish(recipe).splitlines()[1]


def test_fish_keeps_what_the_user_changed() -> None:
    recipe = {**RECIPE, "set": {"A": "ours"}, "default": {}, "prepend": {}}
    line = "if not set -q A; or test \"$A\" = 'image'; set -gx A 'ours'; end"

    assert line == fish(recipe, {"A": "image"}).splitlines()[1]


def test_fish_finds_secrets_in_a_file_of_their_own() -> None:
    base = {"HF_TOKEN": "hush-hush", "HF_HOME": "/hf"}
    plain, secret = renderers.fish(RECIPE, base, "/run/it's")
    word = "'/run/it\\'s/secrets.fish'"

    assert (False, True) == ("hush" in plain, "HF_HOME" in plain)
    assert (True, False) == ("set -gx HF_TOKEN 'hush-hush'" in secret, "HF_HOME" in secret)
    assert f"if test -r {word}; source {word}; end" == plain.splitlines()[-1]


def test_fish_gets_the_search_path_last_entry_first() -> None:
    text = fish(RECIPE, {"PATH": "/workspace/bin:/usr/bin"})
    lines = [line for line in text.splitlines() if line.startswith("contains")]
    expected = [
        f"contains -- '{entry}' $PATH; or set -gx --path PATH '{entry}' $PATH"
        for entry in ("/usr/bin", "/workspace/bin")
    ]

    assert expected == lines


@pytest.mark.parametrize("home", ["", "/"])
def test_fish_does_not_move_a_home_that_is_nobodys(home: str) -> None:
    assert "HOME" not in fish({**RECIPE, "image_home": home})


# Our block in somebody else's file

TEXTS = ["", "a\n", "a\nb\n", "\n\n", "# comment\n\n  indented\n", "caf\udce9\r\n"]

BLOCK = f"{renderers.BEGIN}\none\ntwo\n{renderers.END}\n"


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_a_block_goes_to_the_top_or_to_the_end(text: str) -> None:
    assert BLOCK + text == renderers.with_block(text, ["one", "two"], top=True)
    assert text + BLOCK == renderers.with_block(text, ["one", "two"], top=False)


@pytest.mark.parametrize("top", [True, False])
@pytest.mark.parametrize("text", [*TEXTS, "no end of line"], ids=ascii)
def test_a_block_written_twice_is_written_once(text: str, top: bool) -> None:
    once = renderers.with_block(text, ["one", "two"], top=top)

    assert once == renderers.with_block(once, ["one", "two"], top=top)


@pytest.mark.parametrize("top", [True, False])
@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_a_new_block_replaces_the_old_one(text: str, top: bool) -> None:
    old = renderers.with_block(text, ["old"], top=top)

    assert renderers.with_block(text, ["new"], top=top) == renderers.with_block(
        old, ["new"], top=top
    )


@pytest.mark.parametrize("top", [True, False])
@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_without_lines_the_block_goes_and_the_rest_stays_to_the_byte(text: str, top: bool) -> None:
    once = renderers.with_block(text, ["one", "two"], top=top)

    assert text == renderers.with_block(once, [], top=top)


def test_text_around_a_block_in_the_middle_stays() -> None:
    text = f"before\n{BLOCK}after\n"

    assert f"before\nafter\n{BLOCK}" == renderers.with_block(text, ["one", "two"], top=False)
    assert "before\nafter\n" == renderers.with_block(text, [], top=True)


def test_a_last_line_without_an_end_gets_one_before_our_block() -> None:
    assert f"last\n{BLOCK}" == renderers.with_block("last", ["one", "two"], top=False)


@pytest.mark.parametrize(
    "top",
    [
        True,
        False,
    ],
)
def test_a_block_whose_end_was_deleted_takes_no_text_with_it(top: bool) -> None:
    damaged = f"before\n{renderers.BEGIN}\nold\nthe user's own line\n"
    once = renderers.with_block(damaged, ["one"], top=top)
    twice = renderers.with_block(once, ["two"], top=top)

    assert "the user's own line\n" in once
    assert "the user's own line\n" in twice

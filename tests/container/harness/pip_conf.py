"""Print this machine's effective pip configuration (files and PIP_* variables) as one pip.conf."""

from __future__ import annotations

import ast
import configparser
import subprocess
import sys

LISTS = {"find-links", "extra-index-url", "trusted-host"}
SKIP = {"disable-pip-version-check"}
SECTIONS = {"install", "download", "wheel"}


def merged(listing: str) -> configparser.RawConfigParser:
    config = configparser.RawConfigParser()
    config["global"] = {}
    for line in listing.splitlines():
        key, _, literal = line.partition("=")
        section, _, name = key.strip().rpartition(".")
        name = name.replace("_", "-")
        if name in SKIP:
            continue
        if section not in SECTIONS:
            section = "global"  # [global], :env: and what else pip lists
        if not config.has_section(section):
            config.add_section(section)
        value = str(ast.literal_eval(literal.strip()))
        if name in LISTS:
            value = "\n".join([config[section].get(name, ""), *value.split()]).strip()
        config[section][name] = value
    return config


if __name__ == "__main__":
    command = ["pip", "config", "list"]
    listing = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    merged(listing).write(sys.stdout)

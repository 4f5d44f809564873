"""Floor 1: profiles, from TOML text to frozen values with their origin."""

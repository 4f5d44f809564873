"""Floor 2: what is outside the volume, and would be lost."""

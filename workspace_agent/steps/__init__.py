"""Floor 2: one idempotent thing each."""

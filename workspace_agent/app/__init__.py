"""Floor 3: use cases. The only floor where features meet."""

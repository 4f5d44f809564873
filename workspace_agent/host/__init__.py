"""Floor 1: the machine, in small functions."""

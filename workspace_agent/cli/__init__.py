"""Floor 4: click. Parse, call one use case, render."""

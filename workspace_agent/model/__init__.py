"""Floor 0: the words we speak. Values only: no disk, no process, no click."""

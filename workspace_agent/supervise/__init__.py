"""Floor 2: being the workload's init."""

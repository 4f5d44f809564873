"""Freeze the workload's processes, and let the next container go on with them."""

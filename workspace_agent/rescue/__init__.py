"""What was written outside the volume: kept on it, and put back at the next boot."""

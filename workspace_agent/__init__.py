"""Make the next GPU pod come back as the last one was left."""

__version__ = "26.1"

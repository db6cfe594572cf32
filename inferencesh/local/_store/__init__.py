"""The database of the embedded runtime."""

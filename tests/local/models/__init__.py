"""The models of the embedded runtime."""

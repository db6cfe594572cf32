"""Types and JSON."""

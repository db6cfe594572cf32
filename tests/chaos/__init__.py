"""A fleet of examples/fleet under random faults, and what must be true of every turn afterwards."""

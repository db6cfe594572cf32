"""Runs of examples/fleet under random faults, and checks of every turn afterwards."""

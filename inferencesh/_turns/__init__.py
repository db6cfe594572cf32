"""Turns of a conversation on an event loop: driven, with their tools run."""

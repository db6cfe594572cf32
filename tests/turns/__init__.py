"""Tests of one turn: its conversation, its driver and its tool calls."""

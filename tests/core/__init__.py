"""The sans-I/O core, driven with bytes and events alone; the clock is the ``now`` that each call is given."""

"""The wire protocol as pure functions of what arrives: no I/O, no clock, no event loop."""

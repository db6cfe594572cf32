"""One task on an event loop."""

"""The demo model, with which the embedded runtime answers by default."""

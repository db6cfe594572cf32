"""The embedded runtime's HTTP interface: addresses, bodies and errors."""

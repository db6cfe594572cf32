"""Files on their way to the service."""

"""The HTTP API of the embedded runtime: endpoints, request bodies and responses."""

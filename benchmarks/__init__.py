"""The cost of this client, measured against the bare work and against other SDKs: ``python -m benchmarks``."""

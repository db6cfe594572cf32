"""What this client costs, measured beside the bare work and beside other SDKs: ``python -m benchmarks``."""

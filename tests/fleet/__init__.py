"""Tests of the fleet example with all of its processes: Redis, fronts, workers, and an embedded runtime."""

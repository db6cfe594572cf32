"""The example of a fleet, with all of its processes: Redis, fronts, workers, and an embedded runtime."""

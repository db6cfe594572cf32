"""Tests of the embedded runtime, over real sockets and without this package's client."""

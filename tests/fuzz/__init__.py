"""Fuzz targets: what comes from the network, as bytes, and the only exceptions it may lead to."""

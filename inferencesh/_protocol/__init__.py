"""The wire protocol of a turn, without I/O, clock or event loop: bytes in, snapshots and the outcome out."""

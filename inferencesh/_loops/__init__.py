"""Event loops and threads: the blocking client's loop, and where functions of the user are called."""

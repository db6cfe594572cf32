"""Claims: of tool calls, messages and turns, by one process or several."""

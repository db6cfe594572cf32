"""``inferencesh chat``: conversations in pipes, in plain terminals, and with the extra ``cli`` in rich ones."""

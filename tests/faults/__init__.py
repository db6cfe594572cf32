"""What the clients do when the network or the server does its worst.

``server`` answers every request byte by byte as a short script says, ``script`` is the language of those scripts,
``forms`` holds what the service would send, ``turns`` drives one turn of either client through a scenario and checks
what holds for every one of them.
"""

"""How the clients behave, through their public names, against an embedded runtime over real sockets."""

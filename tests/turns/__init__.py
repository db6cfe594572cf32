"""What turns are made of."""

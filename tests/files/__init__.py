"""Files: what they can be given as, how they get to storage, and what happens when they do not."""

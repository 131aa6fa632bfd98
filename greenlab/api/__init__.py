"""The facade: what the magics and Python code call. Puts the rooms together."""

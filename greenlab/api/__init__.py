"""The facade: what the magics and Python code call. It combines the other rooms."""

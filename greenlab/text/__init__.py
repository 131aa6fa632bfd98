"""Text: numbers, times and tables as people read them. Imports nothing of greenlab."""

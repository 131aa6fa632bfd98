"""Text: numbers, durations and tables, formatted for people. Imports nothing of greenlab."""

"""Comparing: the same tasks in several pools (a race) or at several concurrencies (a sweep), and the results."""

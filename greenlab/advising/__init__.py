"""Advising: what a task costs, what each pool would make of it, trials of it, and the pool that decides by itself."""

"""Tracing: who held the hub and when (the timeline), and one switch at a time on a virtual clock (the stepper)."""

"""What the pools of worker processes share: where processes come from, how they are kept, and what travels.

`forkserver` makes processes and `supervisor` keeps them; `serialization`, `framing` and `ring_buffer` carry tasks and
results.

Guarantees of the room: no process outlives its pool; nothing in the kernel's half blocks; a frame arrives whole or not
at all, and what cannot be sent is named.

Must not import: prefork, hybrid, green, threads; here at the top, anything at all: every worker process loads it.
"""

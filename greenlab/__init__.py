"""greenlab: feel and measure concurrency in Jupyter."""

"""Time, memory and throughput on this machine."""

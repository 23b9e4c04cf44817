"""Exported graphs for other runtimes: written, checked, loaded, standing in for the network."""

"""The check of a download before anything is built from it."""

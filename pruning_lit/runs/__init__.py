"""A run on the disk: begun, continued, finished, read back."""

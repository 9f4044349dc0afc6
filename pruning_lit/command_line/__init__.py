"""Command line to checked config, and errors to one sentence."""

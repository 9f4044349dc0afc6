"""Which norms and shortcuts get a selection or a scatter, and how scatters are removed again."""

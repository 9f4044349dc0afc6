"""From what is typed to a checked config, and from what goes wrong to one sentence."""

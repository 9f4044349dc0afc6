"""Follow the identities of channels through one forward pass, and group them."""

"""Small modules that are attached to a network: channel selection and scatter, compactors, folded batch norms."""

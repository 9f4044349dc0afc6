"""Insertion of selections in front of batch norms and of scatters behind shortcuts, and removal of scatters."""

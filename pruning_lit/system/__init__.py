"""Files, signals, processes, and trust in what others have written."""

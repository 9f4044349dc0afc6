"""What a run lives among: disks that fill up, signals, other processes."""

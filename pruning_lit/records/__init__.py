"""Plain data on networks and cuts that outlive a process: read and written without torch."""

"""Prove a plan on a copy, then narrow, mask, widen; count what a width costs."""

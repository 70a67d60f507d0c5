"""Polling: the loop of a wait, its intervals and its sources."""

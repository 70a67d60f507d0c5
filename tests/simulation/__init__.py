"""Simulation of the whole client in virtual time, and the faults that it has to find."""

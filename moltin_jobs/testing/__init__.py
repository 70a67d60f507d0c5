"""A simulated store, and pytest fixtures on it."""

from .plugin import AnyFault, Fault, Request, Simulator, moltin_session, moltin_simulator

__all__ = ["AnyFault", "Fault", "Request", "Simulator", "moltin_session", "moltin_simulator"]

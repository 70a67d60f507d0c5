"""Command line of the package: ``moltin-jobs``."""

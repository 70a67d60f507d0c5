"""Transport: attempts, downloads and the rate limit. The only importer of aiohttp in the client."""

from aiohttp import ClientSession  # for annotations elsewhere

__all__ = ["ClientSession"]

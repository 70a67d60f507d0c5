"""Transport: attempts, downloads and the rate limit. The only importer of aiohttp in the client."""

from aiohttp import ClientSession

__all__ = ["ClientSession"]

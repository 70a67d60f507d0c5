"""Requests and responses of the Jobs API. Pure: no asyncio, no clock, no aiohttp."""

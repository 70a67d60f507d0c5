"""Refusals of requests that give a reason."""

from aiohttp import web


class BadRequest(web.HTTPBadRequest):
    """Refusal of a request, with the detail that the service gives."""

    def __init__(self, detail: str) -> None:
        super().__init__()
        self.detail = detail


class FailedValidation(web.HTTPUnprocessableEntity):
    """Refusal of a request that the state of the job does not permit."""

    def __init__(self, detail: str) -> None:
        super().__init__(reason="Failed Validation")
        self.detail = detail

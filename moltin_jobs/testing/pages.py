"""Pages of the lists of the simulator."""

import re
from collections.abc import Mapping
from typing import Self

import attrs

from .kinds import Kind
from .refusals import BadRequest

DEFAULT_LIMIT = 25
MAX_LIMIT = 100
MAX_OFFSET = 10_000  # of the lists without a total


@attrs.frozen
class Page:
    """The part of a list that a request asks for."""

    offset: int
    limit: int

    @classmethod
    def read(cls, query: Mapping[str, str], kind: Kind) -> Self:
        """Read ``page[offset]`` and ``page[limit]``. A limit above 100 is lowered to it."""
        offset = read_number(query, "page[offset]", 0)
        if kind.pages == "limited" and offset > MAX_OFFSET:
            raise BadRequest(f"page[offset] must be at most {MAX_OFFSET}")
        limit = read_number(query, "page[limit]", DEFAULT_LIMIT)
        return cls(offset, min(limit, MAX_LIMIT))

    @property
    def slice(self) -> slice:
        """The items of the page."""
        return slice(self.offset, self.offset + self.limit)

    def make_links(self, url: str, total: int) -> dict[str, str]:
        """Make the links of the page.

        There is no next one on the second-to-last page: a fault of the service.
        """
        offsets = {"self": self.offset, "first": 0}
        if total > self.offset + 2 * self.limit:
            offsets["next"] = self.offset + self.limit
        return {
            name: f"{url}?page[limit]={self.limit}&page[offset]={offset}"
            for name, offset in offsets.items()
        }


def read_number(query: Mapping[str, str], name: str, default: int) -> int:
    """Read a number of at least 0."""
    text = query.get(name, str(default))
    if not re.fullmatch("[0-9]{1,9}", text):
        raise BadRequest(f"{name} must be a number of at least 0")
    return int(text)

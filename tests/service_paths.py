"""Paths of the service, written down once more, so that a wrong path in the client is seen."""

PATHS = {
    "order": "/v2/jobs",
    "pxm": "/pcm/jobs",
    "release:c": "/pcm/catalogs/c/releases",
    "subscription": "/v2/subscriptions/jobs",
    "subscription-import": "/v2/subscriptions/imports",
    "inventory-import": "/v2/inventories/imports",
}
"""Path of the list of each kind of job."""

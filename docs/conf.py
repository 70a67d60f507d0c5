"""Configuration of Sphinx. Build with ``sphinx-build -W -b html docs docs/_build/html``."""

import zlib
from pathlib import Path

import moltin_jobs

project = "moltin_jobs"
author = "the moltin_jobs contributors"
version = release = moltin_jobs.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.intersphinx",
]
exclude_patterns = ["_build"]
nitpicky = True
nitpick_ignore = [("py:class", "moltin_jobs.session.Item")]  # a type variable

html_theme = "furo"
html_title = "moltin_jobs"
html_static_path = ["_static"]
html_css_files = ["wrap.css"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

default_role = "py:obj"  # single backticks in docstrings name an object
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False

# The documentation is built without network, so the inventories of other projects are written
# here. They list only the names that the API reference uses.
_PYTHON = {
    "BaseException": ("exception", "library/exceptions.html"),
    "Exception": ("exception", "library/exceptions.html"),
    "RuntimeError": ("exception", "library/exceptions.html"),
    "TimeoutError": ("exception", "library/exceptions.html"),
    "TypeError": ("exception", "library/exceptions.html"),
    "ValueError": ("exception", "library/exceptions.html"),
    "OSError": ("exception", "library/exceptions.html"),
    "bool": ("class", "library/functions.html"),
    "bytes": ("class", "library/stdtypes.html"),
    "dict": ("class", "library/stdtypes.html"),
    "float": ("class", "library/functions.html"),
    "int": ("class", "library/functions.html"),
    "list": ("class", "library/stdtypes.html"),
    "object": ("class", "library/functions.html"),
    "str": ("class", "library/stdtypes.html"),
    "tuple": ("class", "library/stdtypes.html"),
    "collections.abc.AsyncIterator": ("class", "library/collections.abc.html"),
    "collections.abc.Awaitable": ("class", "library/collections.abc.html"),
    "collections.abc.Callable": ("class", "library/collections.abc.html"),
    "collections.abc.Iterable": ("class", "library/collections.abc.html"),
    "collections.abc.Mapping": ("class", "library/collections.abc.html"),
    "collections.abc.Sequence": ("class", "library/collections.abc.html"),
    "datetime.datetime": ("class", "library/datetime.html"),
    "enum.StrEnum": ("class", "library/enum.html"),
    "os.PathLike": ("class", "library/os.html"),
    "pathlib.Path": ("class", "library/pathlib.html"),
    "typing.Any": ("data", "library/typing.html"),
    "typing.Literal": ("data", "library/typing.html"),
    "typing.Protocol": ("class", "library/typing.html"),
    "typing.Self": ("data", "library/typing.html"),
    "typing.TypedDict": ("data", "library/typing.html"),
    "typing.Unpack": ("data", "library/typing.html"),
    "uuid.UUID": ("class", "library/uuid.html"),
}
_CLIENT_SESSION = ("class", "client_reference.html#aiohttp.ClientSession")
_AIOHTTP = {
    "aiohttp.ClientSession": _CLIENT_SESSION,
    "aiohttp.client.ClientSession": _CLIENT_SESSION,  # where it is defined
}


def _write_inventory(name: str, objects: dict[str, tuple[str, str]]) -> str:
    lines = []
    for key, (role, page) in objects.items():
        location = page if "#" in page else f"{page}#{key}"
        lines.append(f"{key} py:{role} 1 {location} -\n")
    header = f"# Sphinx inventory version 2\n# Project: {name}\n# Version: \n"
    header += "# The remainder of this file is compressed using zlib.\n"
    path = Path(__file__).parent / "_build" / "inventories" / f"{name}.inv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header.encode() + zlib.compress("".join(lines).encode()))
    return str(path)


intersphinx_mapping = {
    "python": ("https://docs.python.org/3/", _write_inventory("python", _PYTHON)),
    "aiohttp": ("https://docs.aiohttp.org/en/stable/", _write_inventory("aiohttp", _AIOHTTP)),
}

"""Entry point of the command line."""

import contextlib
import sys


def main() -> None:
    """Run the command line, or name the extra that has to be installed for it."""
    try:
        from .cli.commands import commands  # noqa: PLC0415 (its packages are an extra)
    except ModuleNotFoundError as error:
        if error.name not in ("click", "rich"):
            raise
        sys.stderr.write("error: the command line needs: pip install 'moltin-jobs[cli]'\n")
        sys.exit(2)
    with contextlib.suppress(AttributeError):  # there may be no stdout
        # Escape characters that it cannot encode, as stderr does, instead of failing.
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    commands(prog_name="moltin-jobs")


if __name__ == "__main__":
    main()

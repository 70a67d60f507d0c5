"""The command's door: says what to install where the command line's own packages are absent."""

import sys


def main() -> None:
    """Run the command line; see ``moltin-jobs --help``."""
    try:
        from .cli.commands import commands  # noqa: PLC0415 (they are an extra)
    except ModuleNotFoundError as error:
        if error.name not in ("click", "rich"):
            raise
        sys.stderr.write("error: the command line needs: pip install 'moltin-jobs[cli]'\n")
        sys.exit(2)
    commands(prog_name="moltin-jobs")


if __name__ == "__main__":
    main()

"""`python -m headrace`, for launchers that start a module."""

from headrace.cli import main

if __name__ == "__main__":
    main()

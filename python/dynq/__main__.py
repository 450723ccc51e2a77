"""Run the command ``dynq`` as ``python -m dynq``."""

from .cli import main

if __name__ == "__main__":
    main()

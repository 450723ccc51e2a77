"""``python -m dynq`` is the command ``dynq``."""

from .cli import main

if __name__ == "__main__":
    main()

"""``python -m thinice``: the same as the command ``thinice``."""

from thinice.cli import console

if __name__ == "__main__":
    console()

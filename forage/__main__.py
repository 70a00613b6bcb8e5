"""`python -m forage`: the command line."""

from forage.cli import main

if __name__ == "__main__":
    main()

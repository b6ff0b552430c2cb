"""`python -m fluxion`, the same as the command `fluxion`."""

from fluxion.cli import main

if __name__ == "__main__":
    main()

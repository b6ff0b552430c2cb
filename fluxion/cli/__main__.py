"""`python -m fluxion.cli`."""

from fluxion.cli import main

if __name__ == "__main__":
    main()

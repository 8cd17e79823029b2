"""`python -m swproxy` is the command `swproxy`."""

from swproxy.cli.main import main

if __name__ == "__main__":
    main()

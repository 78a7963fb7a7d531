"""``python -m podidentity`` is the command ``podidentity``."""

from podidentity.cli.main import main

if __name__ == "__main__":
    main()

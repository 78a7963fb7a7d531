"""One GET without any retry, as curl sends it; see the package for what is asked and reported."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

ORDER = json.loads(sys.argv[1])
URL = "http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource=" + ORDER["resource"]


def ask() -> None:
    """Ask once, and report."""
    begun = time.monotonic()
    try:
        with urlopen(Request(URL, headers={"Metadata": "true"}), timeout=60) as answer:
            outcome, words = "token", json.load(answer)["access_token"]
    except HTTPError as error:
        outcome, words = str(error.code), error.read().decode()
    except OSError as error:
        outcome, words = type(error).__name__, str(error)
    found = {"way": "", "outcome": outcome, "begun": begun, "seconds": time.monotonic() - begun, "words": words}
    print(json.dumps(found), flush=True)  # noqa: T201 - what the test reads


ask()
while ORDER["stop"] and not Path(ORDER["stop"]).exists():
    time.sleep(0.1)
    ask()

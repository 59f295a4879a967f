"""`kn-lambda version`."""

from __future__ import annotations

import platform

from knative_lambda import __version__
from knative_lambda.api.meta import API_VERSION
from knative_lambda.cli.output import Form, Output, write, write_json


def version(output: Output = Form.TEXT) -> None:
    """Print the version of this program, of Python, and of the API that it speaks.

    \b
    kn-lambda version
    kn-lambda version --output json
    """
    if output is Form.JSON:
        write_json({"version": __version__, "python": platform.python_version(), "apiVersion": API_VERSION})
    else:
        write(f"kn-lambda {__version__} (Python {platform.python_version()}, {API_VERSION})\n")

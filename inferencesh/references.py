"""The forms of what a configuration refers to: apps and agents by name, and URLs that the service calls."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

__all__ = ["reference_problem", "url_problem"]

_REFERENCE = re.compile(r"[^\s/@]+/[^\s/@]+(@[^\s/@]+)?")
_TEMPLATE = re.compile(r"\$?\{\{[^{}]+\}\}")  # {{context.NAME}}, which the service fills in


def reference_problem(reference: object) -> str | None:
    """What is wrong with the name of an app or agent, or None."""
    if isinstance(reference, str) and _REFERENCE.fullmatch(reference):
        return None
    return f"an app or agent is named by namespace/name or namespace/name@version, not {reference!r}"


def url_problem(url: object) -> str | None:
    """What is wrong with a URL that the service is to call, or None."""
    if not isinstance(url, str):
        return f"a URL is text, not {url!r}"
    filled = _TEMPLATE.sub("x", url)
    try:
        parts = urlsplit(filled)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    begins_with_template = _TEMPLATE.match(url) is not None
    if not (valid or begins_with_template) or re.search(r"[\s\x00-\x1f\x7f]", filled):
        return f"{url!r} is no http or https URL"
    return None

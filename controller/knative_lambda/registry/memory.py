"""A registry without a network, for local mode and tests."""

from __future__ import annotations

from knative_lambda.registry.base import Login, Reference, RegistryError


class MemoryRegistry:
    """Holds what was pushed to it."""

    def __init__(self) -> None:
        self._images: dict[Reference, str] = {}
        self._failure: RegistryError | None = None

    def push(self, image: Reference, digest: str) -> None:
        """The tag, and the digest itself, now name this manifest."""
        self._images[image] = digest
        self._images[Reference(image.host, image.repository, digest)] = digest

    def fail(self, error: RegistryError | None) -> None:
        """Every question fails so, until this is called with None."""
        self._failure = error

    async def digest(self, image: Reference, login: Login | None = None) -> str | None:  # noqa: ARG002 - the port's signature
        if self._failure is not None:
            raise self._failure
        return self._images.get(image)

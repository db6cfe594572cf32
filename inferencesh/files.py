"""``client.files``: uploads."""

from __future__ import annotations

from .file_sources import FileSource, OnProgress, check_source
from .models import FileRef
from .transport import Transport
from .uncopied import Uncopied
from .uploads import upload

__all__ = ["AsyncFiles"]


class AsyncFiles(Uncopied):
    """The account's files; ``client.files``.

    Example:
        ```python
        photo = await client.files.upload(b"GIF89a...", filename="photo.gif")
        message = await agent.send_message("What is this?", files=[photo])
        ```
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def upload(
        self,
        source: FileSource,
        *,
        filename: str | None = None,
        content_type: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> FileRef:
        """Upload a file, to be sent with a message, with a tool's result, or as often as you like.

        A file on disk is read while it is sent, whatever its size in constant memory. The bytes go to the address that
        the service names, without the API key, and again when the connection or the storage server fails. No limit of
        time applies to the whole, only to the waits in between (``Timeout.idle``).

        Args:
            source: A ``pathlib.Path``; bytes; a binary file object, which is read from where it stands, and first
                copied to a temporary file if it can be read only once; a ``data:`` URI; or a FileRef, for which nothing
                is sent. A str that is no data: URI is refused.
            filename: The name to give it; that of the source when None.
            content_type: Its MIME type; guessed from name and bytes when None.
            on_progress: Called as ``on_progress(sent, total)`` in bytes: with 0 before anything is sent, then every 256
                KiB, and with ``total`` when the storage has taken all. It never goes back, also when a failed attempt
                is repeated. Sync or async; what it raises ends the upload and reaches you.

        Returns:
            What it is at the service; the very FileRef that was given, unless it is to be named or typed otherwise.

        Raises:
            FileError: The file is not there, cannot be read, or its size changed meanwhile.
            TypeError: The source is none of these.
            ConfigurationError: The data: URI or the content type cannot be read.
            APIError: The service or its storage refused the file.
            APIConnectionError: One of them could not be reached or did not answer.

        Example:
            ```python
            def on_progress(sent, total):
                print(f"{sent} of {total} bytes")


            notes = await client.files.upload(b"Buy milk.", filename="notes.txt", on_progress=on_progress)
            print(notes.filename, notes.content_type, notes.size)
            ```

            ```text
            0 of 9 bytes
            9 of 9 bytes
            notes.txt text/plain 9
            ```
        """
        check_source(source)
        return await upload(self._transport, source, filename, content_type, on_progress)

"""The errors that a runtime itself raises, apart from those it answers requests with."""

from __future__ import annotations

from inferencesh.errors import ConfigurationError

__all__ = ("DatabaseError",)


class DatabaseError(ConfigurationError):
    """The file cannot be used to keep chats: it is none, is in use, or cannot be read or written.

    Example:
        ```python
        try:
            with Inference.local(db="/no/such/directory/chats.db") as client:
                client.agent({"name": "greeter"}).send_message("Hello")
        except DatabaseError as error:
            print("chats cannot be kept there")
        ```

        ```text
        chats cannot be kept there
        ```
    """

"""What ``agent.run`` is to return: the schema the agent is given for it, and its output read as that type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import attrs

from .errors import ConfigurationError, OutputError
from .hints import type_name
from .json_types import JsonTypes
from .models import Message
from .output_schema import VALUE, finish_schema
from .strict_problems import told

__all__ = ["OutputType"]

T = TypeVar("T")


@attrs.frozen
class OutputType(Generic[T]):
    """A type that an agent's output is read as.

    Attributes:
        name: The type, for people.
        schema: Its JSON Schema, of an object: what is no object stands in the property ``value`` of one.
        in_object: Whether it does.
    """

    name: str
    schema: Mapping[str, Any]
    in_object: bool
    _read: Callable[[object], T]

    @classmethod
    def of(cls, output_type: type[T]) -> OutputType[T]:
        """Look at a type.

        Args:
            output_type: An attrs class, dataclass, TypedDict, NamedTuple, enum, or anything of builtin types.

        Raises:
            ConfigurationError: It has no schema, or cannot be read.
        """
        name = type_name(output_type)
        try:
            found = JsonTypes([output_type])
        except ConfigurationError as error:
            raise ConfigurationError(
                f"output_type={name} has no JSON Schema: {error}; take attrs classes, dataclasses, TypedDicts, enums "
                "and builtin types, and the same for their fields"
            ) from error
        schema, in_object = finish_schema(found.schemas[0], found.definitions)
        return cls(name, schema, in_object, found.readers[0])

    def read(self, output: object, message: Message | None = None, chat_id: str | None = None) -> T:
        """Read an output as this type.

        Args:
            output: The JSON value; None means that there is none.
            message: The turn's last message, for the error to carry.
            chat_id: The chat, likewise.

        Raises:
            OutputError: There is none, or it is of another shape.
        """
        try:
            return self._checked(output)
        except OutputError as error:
            error.message, error.chat_id = message, chat_id
            raise

    def _checked(self, output: object) -> T:
        if output is None:
            raise OutputError(f"the agent ended without an output; expected {self.name}")
        value = output
        if self.in_object and isinstance(output, dict) and set(output) == {VALUE}:
            value = output[VALUE]  # else the service has taken it out already
        try:
            return self._read(value)
        except Exception as error:  # noqa: BLE001 - whatever a class's own validators raise is a shape that is wrong
            raise OutputError(f"the agent's output is no valid {self.name}: {told(error)}", output) from None

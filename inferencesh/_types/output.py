"""Build the schema of an output type for ``agent.run``, and read the agent's output as that type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import attrs

from inferencesh.errors import ConfigurationError, OutputError
from inferencesh.models import Message

from .factory import TypeNodes
from .hints import type_name
from .nodes import FieldError, Node
from .reading import told
from .schemas import VALUE, Definitions, Schema, finish_schema

__all__ = ["JsonType", "JsonTypes", "OutputType"]


@attrs.frozen
class JsonType:
    """The JSON Schema and the reader of a type.

    Attributes:
        schema: The JSON Schema; recursive types are references to the definitions of ``JsonTypes``.
        node: The description of the type that both come from.
    """

    schema: Schema
    node: Node

    def read(self, value: object) -> Any:
        """Read a JSON value as this type.

        Raises:
            MismatchError: It does not fit.
            RecursionError: It is nested too deeply.
        """
        return self.node.read(value)


class JsonTypes:
    """Types that are described together, such as the parameters of a tool.

    Args:
        names: Local names, for the hints of classes that are defined in functions.

    Attributes:
        definitions: The schemas of recursive types, by name.
    """

    def __init__(self, names: Mapping[str, Any] | None = None) -> None:
        self._nodes = TypeNodes(names or {})
        self._definitions = Definitions()

    @property
    def definitions(self) -> Mapping[str, Schema]:
        """The schemas of recursive types, by name."""
        return self._definitions.schemas

    def add(self, hint: Any) -> JsonType:
        """Describe a type.

        Args:
            hint: The type hint, resolved.

        Raises:
            ConfigurationError: It has no JSON Schema, or cannot be read; the error names the reason and the field.
        """
        try:
            node = self._nodes.of(hint)
            return JsonType(node.schema(self._definitions), node)
        except FieldError as error:
            raise ConfigurationError(str(error)) from error.__cause__
        except ConfigurationError:
            raise
        except NameError as error:
            raise ConfigurationError(f"{error}; what a class's hints name must be at the top of its module") from error
        except Exception as error:  # an odd class may raise anything
            said = (str(error).splitlines() or [""])[0]
            raise ConfigurationError(said or type(error).__name__) from error


T = TypeVar("T")


@attrs.frozen
class OutputType(Generic[T]):
    """The type of an agent's output.

    Attributes:
        name: The type, for error messages.
        schema: The JSON Schema of an object; any other output is the property ``value`` of that object.
        in_object: Whether the output is such a property.
        giver: Who gives the output, for error messages.
    """

    name: str
    schema: Mapping[str, Any]
    in_object: bool
    _read: Callable[..., T]
    giver: str = "agent"

    @classmethod
    def of(cls, output_type: type[T], giver: str = "agent") -> OutputType[T]:
        """Return the output type for a type hint.

        Args:
            output_type: An attrs class, dataclass, TypedDict, NamedTuple, enum, model of pydantic, or anything of
                builtin types.
            giver: Who gives the output, for error messages.

        Raises:
            ConfigurationError: It has no schema, or cannot be read.
        """
        name = type_name(output_type)
        try:
            types = JsonTypes()
            found = types.add(output_type)
        except ConfigurationError as error:
            raise ConfigurationError(
                f"output_type={name} has no JSON Schema: {error}; take attrs classes, dataclasses, TypedDicts, "
                "models of pydantic, enums and builtin types, and the same for their fields"
            ) from error
        schema, in_object = finish_schema(found.schema, types.definitions)
        return cls(name, schema, in_object, found.node.read, giver)

    def read(self, output: object, message: Message | None = None, chat_id: str | None = None) -> T:
        """Read an output as this type.

        Args:
            output: The JSON value, or None if there is none.
            message: The turn's last message, added to the error.
            chat_id: The chat's id, added to the error.

        Raises:
            OutputError: There is none, or it does not match the type.
        """
        try:
            return self._checked(output)
        except OutputError as error:
            error.message, error.chat_id = message, chat_id
            raise

    def _checked(self, output: object) -> T:
        if output is None:
            raise OutputError(f"the {self.giver} ended without an output; expected {self.name}")
        try:
            return self._read(self._unwrapped(output))
        except Exception as error:  # noqa: BLE001 - a class's own validators may raise anything
            raise OutputError(f"the {self.giver}'s output is no valid {self.name}: {told(error)}", output) from None

    def read_partial(self, output: object, over: bool = False) -> T | None:  # noqa: FBT001 - see ReadPartial
        """Read an output that is still being written, as far as it is complete.

        Lists and dicts hold the entries that are complete so far. A class is complete when all fields are that it
        requires.

        Args:
            output: The JSON value so far, or None if there is none.
            over: Whether the output has been written to its end, so that all of it must fit.

        Returns:
            The value; None if it is not complete, or does not match the type.
        """
        if output is None:
            return None
        value = self._unwrapped(output)
        if value is None and self.in_object:
            return None
        try:
            return self._read(value, growing=not over)
        except Exception:  # noqa: BLE001 - a class's own validators may raise anything; get_final_output tells of it
            return None

    def _unwrapped(self, output: object) -> object:
        if self.in_object and isinstance(output, dict) and set(output) == {VALUE}:
            return output[VALUE]  # otherwise the service has unwrapped it
        return output

"""The apps that every runtime has: for trying things, and for the tests of the official SDK."""

from __future__ import annotations

import asyncio
import colorsys
import re
import struct
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from inferencesh.local.apps import OutputFile, Progress, TaskContext

__all__ = ["DEMO_APPS"]

_LARGEST = 2048  # pixels on a side
_PLACE = re.compile(r"\{(\w+)\}")


def write_text(template: str, values: dict[str, str] | None = None) -> dict[str, str]:
    """Fill the places of a template, as in ``Hello {name}!``."""
    return {"text": _filled(template, values or {})}


def template_strings(template: str, strings: list[str] | None = None) -> dict[str, str]:
    """Fill the numbered places of a template, as in ``Hello {1}!``."""
    return {"result": _filled(template, {str(at): text for at, text in enumerate(strings or [], 1)})}


def _filled(template: str, values: Mapping[str, str]) -> str:
    return _PLACE.sub(lambda place: values.get(place[1], place[0]), template)


def paint(context: TaskContext, width: int = 256, height: int = 256, hue: float = 0.6) -> dict[str, object]:
    """Paint a picture of rings in a colour, which ``hue`` gives as a fraction of the colour circle."""
    if not (1 <= width <= _LARGEST and 1 <= height <= _LARGEST):
        raise ValueError(f"width and height must be 1 to {_LARGEST} pixels")
    lines = []
    for y in range(height):
        if context.cancelled:
            break
        if y % 64 == 0:
            context.progress(y / height)
        lines.append(b"".join(_pixel(x, y, width, height, hue) for x in range(width)))
    picture = OutputFile(png(width, height, lines), "image.png", "image/png")
    return {"image": picture, "width": width, "height": height}


def _pixel(x: int, y: int, width: int, height: int, hue: float) -> bytes:
    distance = ((x - width / 2) ** 2 + (y - height / 2) ** 2) ** 0.5 / max(width, height)
    red, green, blue = colorsys.hsv_to_rgb((hue + distance / 4) % 1.0, 0.7, 1.0 - distance * 16 % 1.0 / 2)
    return bytes((int(red * 255), int(green * 255), int(blue * 255)))


def png(width: int, height: int, lines: list[bytes]) -> bytes:
    """Return a PNG picture.

    Args:
        width: The width in pixels.
        height: The height in pixels.
        lines: For each line three bytes a pixel: red, green, blue.
    """
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits, RGB
    data = zlib.compress(b"".join(b"\0" + line for line in lines))  # 0: the line is not filtered
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


async def be_slow(steps: int = 5, seconds: float = 0.0, fail_at: int | None = None) -> AsyncIterator[Progress]:
    """Work in steps that take ``seconds`` together, with progress and logs; fail at a step if that is wanted."""
    if not 1 <= steps <= 1000:
        raise ValueError("steps must be 1 to 1000")
    for step in range(1, steps + 1):
        await asyncio.sleep(seconds / steps)
        if step == fail_at:
            yield Progress(log=f"gave up at step {step} of {steps}")
            raise RuntimeError(f"The step {step} of {steps} failed, as it was asked to.")
        yield Progress(step / steps, f"step {step} of {steps}")
    yield Progress(output={"steps": steps})


def _set_value(context: TaskContext, key: str, value: Any) -> dict[str, object]:
    context.state[key] = value
    return {"success": True, "key": key, "value": value}


def _get_value(context: TaskContext, key: str) -> dict[str, object]:
    return {"found": key in context.state, "key": key, "value": context.state.get(key)}


def _get_all(context: TaskContext) -> dict[str, object]:
    return {"state": dict(context.state)}


def _increment(context: TaskContext, key: str, amount: int = 1) -> dict[str, object]:
    before = context.state.get(key, 0)
    if not isinstance(before, int):
        raise TypeError(f"the value of {key!r} is no number")
    context.state[key] = before + amount
    return {"key": key, "previous": before, "current": before + amount}


DEMO_APPS: Mapping[str, Callable[..., Any]] = {
    "demo/text": write_text,
    "demo/image": paint,
    "demo/slow": be_slow,
    "infsh/text-templating": template_strings,
    "infsh/session-test": _get_all,
    "infsh/session-test:set_value": _set_value,
    "infsh/session-test:get_value": _get_value,
    "infsh/session-test:get_all": _get_all,
    "infsh/session-test:increment": _increment,
}

"""What is fine as an argument is fine as a result: of a handler and by ``submit_tool_result``, in both clients."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import io
import json
import pathlib
import subprocess
import sys
import threading
import types
import uuid
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypedDict

import attrs
import msgspec
import numpy
import pandas  # type: ignore[import-untyped]  # it has no type hints of its own
import pydantic
import pydantic.dataclasses
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from inferencesh import string, tool
from inferencesh._types.encoding import encode_result
from inferencesh._types.output import JsonTypes
from inferencesh.local import ToolCall as Calls
from inferencesh.local.model import ConversationMessage
from tests.support import Served

from .conftest import Connect, Serve

NAN, INFINITE = float("nan"), float("inf")
NOON = datetime.datetime(2026, 11, 28, 12, 0, tzinfo=datetime.UTC)


class Size(enum.Enum):
    """How big."""

    SMALL = "s"
    LARGE = "l"


@attrs.frozen
class Point:
    """An attrs class with a private field."""

    x: Any
    _y: int = 2
    total: int = attrs.field(init=False, default=3)
    _hidden: object = attrs.field(init=False, factory=object)


@dataclasses.dataclass
class Data:
    """A dataclass with a private field."""

    _x: Any
    y: Any = None


class Pair(NamedTuple):
    """Two values."""

    a: int
    b: Any


class Keys(TypedDict):
    """A TypedDict."""

    at: datetime.date


class Tagged(msgspec.Struct, tag="t", rename="camel"):
    """A Struct that is written under other names."""

    my_value: Any


class Short(msgspec.Struct, omit_defaults=True):
    """A Struct whose defaults are left out."""

    a: int = 1
    b: list[int] = msgspec.field(default_factory=list)
    c: int | msgspec.UnsetType = msgspec.UNSET


class Row(msgspec.Struct, array_like=True, tag="row"):
    """A Struct that is written as a list."""

    a: int
    b: Any


class Model(pydantic.BaseModel):
    """A model with everything that changes how it is written."""

    number: int = pydantic.Field(alias="n")
    secret: pydantic.SecretStr = pydantic.SecretStr("hush")
    price: decimal.Decimal = decimal.Decimal("1.10")

    @pydantic.computed_field  # type: ignore[prop-decorator]  # as pydantic documents it
    @property
    def double(self) -> int:
        """Twice the number."""
        return 2 * self.number

    @pydantic.field_serializer("price")
    def _write(self, price: decimal.Decimal) -> str:
        return f"{price} EUR"


class Holder(pydantic.BaseModel):
    """A model that holds anything."""

    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    value: Any


class Sparse(pydantic.BaseModel):
    """A model whose class writes it in its own way."""

    a: int | None = None
    b: int = 2

    def model_dump(self, **options: Any) -> dict[str, Any]:
        """Leave None out."""
        return super().model_dump(**{**options, "exclude_none": True})


class Root(pydantic.RootModel[list[int]]):
    """A list."""


@pydantic.dataclasses.dataclass
class PydanticData:
    """A pydantic dataclass."""

    at: datetime.date


MODEL = {"n": 1, "secret": "**********", "price": "1.10 EUR", "double": 2}
DAY = datetime.date(2026, 11, 28)
FRAME = pandas.DataFrame({"a": [1.5, NAN], "t": [pandas.Timestamp("2026-01-01"), pandas.NaT], "s": ["x", pandas.NA]})

# The type as an argument, or None if it can be none; the value; its JSON.
TABLE: list[tuple[Any, object, object]] = [
    (decimal.Decimal, decimal.Decimal("1.10"), "1.10"),
    (decimal.Decimal, decimal.Decimal("1E+3"), "1E+3"),
    (datetime.timedelta, datetime.timedelta(days=1, seconds=2), "P1DT2S"),
    (datetime.timedelta, datetime.timedelta(microseconds=-5), "-PT0.000005S"),
    (datetime.datetime, NOON, "2026-11-28T12:00:00+00:00"),
    (datetime.datetime, datetime.datetime(2026, 1, 1, 12), "2026-01-01T12:00:00"),  # noqa: DTZ001 - without a time zone
    (
        datetime.datetime,
        NOON.astimezone(datetime.timezone(datetime.timedelta(seconds=1172))),
        "2026-11-28T12:00:00+00:00",
    ),
    (datetime.date, DAY, "2026-11-28"),
    (datetime.time, datetime.time(1, 2, 3, 4, tzinfo=datetime.UTC), "01:02:03.000004+00:00"),
    (uuid.UUID, uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (Size, Size.SMALL, "s"),
    (dict[Size, Size], {Size.SMALL: Size.LARGE}, {"s": "l"}),
    (dict[int, bool], {1: True}, {"1": True}),
    (dict[datetime.date, int], {DAY: 1}, {"2026-11-28": 1}),
    (None, {(1, "a"): 2}, {'[1,"a"]': 2}),
    (None, {frozenset({2, 1}): 1, b"a": 2, Pair(3, 2): 3}, {"[1,2]": 1, "YQ==": 2, "[3,2]": 3}),
    (set[int], {10, 9, 8, 1}, [1, 8, 9, 10]),
    (frozenset[str], frozenset({"b", "a", "c"}), ["a", "b", "c"]),
    (None, {1, "x", Size.SMALL, (2, 3)}, ["s", "x", 1, [2, 3]]),
    (bytes, b"\xff\x00", "/wA="),
    (bytearray, bytearray(b"abc"), "YWJj"),
    (None, memoryview(b"abc"), "YWJj"),
    (None, pathlib.PurePosixPath("/a/b"), "/a/b"),
    (list[int], [2**70], [2**70]),
    (tuple[int, str], (1, "a"), [1, "a"]),
    (None, range(3), [0, 1, 2]),
    (None, collections.deque([b"a"]), ["YQ=="]),
    (None, {"n": (b for b in [b"a", {1}])}, {"n": ["YQ==", [1]]}),
    (None, [map(str, [1]), zip([1], [2], strict=True)], [["1"], [[1, 2]]]),
    (None, {"a": 1}.items(), [["a", 1]]),
    (None, types.MappingProxyType({"a": types.MappingProxyType({1: 2})}), {"a": {"1": 2}}),
    (None, collections.ChainMap({"a": {1}}), {"a": [1]}),
    (Data, Data(1, [2]), {"_x": 1, "y": [2]}),
    (None, Point(Data(Point(b"a"))), {"x": {"_x": {"x": "YQ==", "_y": 2, "total": 3}, "y": None}, "_y": 2, "total": 3}),
    (Pair, Pair(1, "b"), [1, "b"]),
    (Keys, Keys(at=DAY), {"at": "2026-11-28"}),
    (None, Tagged(Point(1)), {"type": "t", "myValue": {"x": 1, "_y": 2, "total": 3}}),
    (None, [Short(), Short(2, [1])], [{}, {"a": 2, "b": [1]}]),
    (None, Row(1, {2}), ["row", 1, [2]]),
    (None, Model(n=1), MODEL),
    (None, {1: [Point(Model(n=1))]}, {"1": [{"x": MODEL, "_y": 2, "total": 3}]}),
    (None, Holder(value={(1, 2): Point(Model(n=1))}), {"value": {"[1,2]": {"x": MODEL, "_y": 2, "total": 3}}}),
    (None, [Sparse()], [{"b": 2}]),
    (None, Root([1, 2]), [1, 2]),
    (None, PydanticData(DAY), {"at": "2026-11-28"}),
    (None, [pydantic.SecretStr("hush"), pydantic.HttpUrl("http://a.b/")], ["**********", "http://a.b/"]),
    (None, [numpy.float32(1.5), numpy.int8(3), numpy.bool_(True), numpy.str_("a")], [1.5, 3, True, "a"]),
    (None, numpy.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
    (None, [numpy.array(3), numpy.longdouble(1.5), numpy.array([1.5], numpy.longdouble)], [3, 1.5, [1.5]]),
    (None, numpy.array(["2026-01-01T12"], "datetime64[ns]"), ["2026-01-01T12:00:00"]),
    (None, [numpy.datetime64("2026-01-01"), numpy.timedelta64(5, "s")], ["2026-01-01", "PT5S"]),
    (None, numpy.array([Size.SMALL, {1}], dtype=object), ["s", [1]]),
    (
        None,
        FRAME,
        [{"a": 1.5, "t": "2026-01-01T00:00:00", "s": "x"}, {"a": None, "t": None, "s": None}],
    ),
    (None, pandas.DataFrame({"v": [1]}, index=pandas.Index(["k"], name="key")), [{"key": "k", "v": 1}]),
    (None, pandas.Series([1.5, NAN]), [1.5, None]),
    (None, pandas.Series([1, 2], index=["a", "b"]), {"a": 1, "b": 2}),
    (None, [pandas.NA, pandas.NaT, pandas.Timestamp(NOON)], [None, None, "2026-11-28T12:00:00+00:00"]),
    (None, [pandas.array([1, None]), pandas.Categorical(["a"]), pandas.Timedelta(5, "s")], [[1, None], ["a"], "PT5S"]),
    (None, {"rows": [Data(None), 1.5]}, {"rows": [{"_x": None, "y": None}, 1.5]}),
]


def results(served: Served) -> list[ConversationMessage]:
    """What the model was told that its tools returned, in the order of the calls."""
    return [message for message in served.script.asked[-1].messages if message.role == "tool"]


def ask(serve: Serve, connect: Connect, *handlers: Callable[[], object]) -> list[ConversationMessage]:
    """Let handlers run, each for one call; returns what the model was told."""
    tools = [tool(f"t{number}").handler(handler).build() for number, handler in enumerate(handlers)]
    served = serve([Calls(each.name, {}) for each in tools], ["done"])
    side = connect(served)
    assert side.result(side.agent({"name": "tester", "tools": tools}).send_message("Go")).text == "done"
    return results(served)


def test_handlers_return_what_handlers_take(serve: Serve, connect: Connect) -> None:
    """Each row of the table, as a tool's result."""
    rows = [row for row in TABLE if not contains_iterator(row[1])]
    told = ask(serve, connect, *((lambda value=value: value) for _, value, _ in rows))
    assert [json.loads(message.text) for message in told] == [expected for _, _, expected in rows]


def contains_iterator(value: object) -> bool:
    """Whether a value can be encoded only once."""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return any(isinstance(item, Iterator) for item in items)


def test_iterators_in_a_result_are_lists(serve: Serve, connect: Connect) -> None:
    """A generator that is the result itself reports progress instead."""
    (told,) = ask(serve, connect, lambda: {"n": (b for b in [b"a", {1}]), "m": map(str, [1])})
    assert json.loads(told.text) == {"n": ["YQ==", [1]], "m": ["1"]}


def test_results_that_are_submitted_have_the_same_form(serve: Serve, connect: Connect) -> None:
    """The whole table as one result."""
    rows = [row for row in TABLE if not contains_iterator(row[1])]
    served = serve([Calls("look_up", {"word": "x"})], ["done"])
    side = connect(served)
    agent = side.agent({"name": "tester", "tools": [tool("look_up").param("word", string()).build()]})
    (call,) = side.result(agent.send_message("Go")).pending_tool_calls
    side.result(agent.submit_tool_result(call, [value for _, value, _ in rows]))
    assert side.result(agent.wait()).text == "done"
    (told,) = results(served)
    assert json.loads(told.text) == [expected for _, _, expected in rows]


@pytest.mark.parametrize(
    ("hint", "value", "expected"), [row for row in TABLE if row[0] is not None], ids=lambda value: type(value).__name__
)
def test_a_result_is_read_back_as_an_argument(hint: Any, value: object, expected: object) -> None:
    """Its form is the one that arguments have, and loses nothing."""
    assert JsonTypes().add(hint).read(json.loads(encode_result([value]).text)[0]) == value


@given(
    st.recursive(
        st.one_of(
            *(st.decimals(allow_nan=False, allow_infinity=False), st.timedeltas(), st.binary(), st.uuids(), st.dates()),
            *(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(Size), st.none()),
            st.frozensets(st.integers() | st.text(max_size=3), max_size=4),
        ),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.text(max_size=3) | st.tuples(st.integers()), inner, max_size=3)
            | st.builds(Data, inner, inner)
            | st.builds(Pair, st.integers(), inner)
            | st.builds(Tagged, inner)
            | st.builds(Holder, value=inner)
        ),
        max_leaves=8,
    )
)
def test_one_value_has_one_form(value: object) -> None:
    """However it stands in others: by itself, beside what takes the slow path, and beside null."""
    text = encode_result([value]).text
    for beside in ("null", "{1: 2}", "2**70"):
        other = {"null": None, "{1: 2}": {1: 2}, "2**70": 2**70}[beside]
        assert json.loads(encode_result([value, other]).text)[0] == json.loads(text)[0]


LOOP: list[object] = []
LOOP.append({"x": LOOP})
SELF = Data(None)
SELF.y = [SELF]
MODEL_LOOP = Holder(value=1)
MODEL_LOOP.value = MODEL_LOOP
DEEP: Any = 1
for _ in range(5000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"items": [0, 1, 2, {"price": 1j}]}, "result.items[3].price: complex has no JSON form: convert it to"),
        (fractions.Fraction(1, 3), "result: fractions.Fraction has no JSON form"),
        (Data(Point([object()])), "result._x.x[0]: object has no JSON form"),
        ([Holder(value=lambda: 1)], "result[0].value: function has no JSON form"),
        ([Tagged({1: print})], "result[0].myValue['1']: builtin_function_or_method has no JSON form"),
        ({object()}, "result[0]: object has no JSON form"),
        ({"a b": {object(): 1}}, "result['a b'], a key: object has no JSON form"),
        ({"a": [NAN]}, "result.a[0]: NaN and Infinity have no JSON form"),
        ([None, Data(-INFINITE)], "result[1]._x: NaN and Infinity have no JSON form"),
        (Data(decimal.Decimal("NaN")), "result._x: NaN and Infinity have no JSON form"),
        (numpy.array([1.0, NAN]), "result[1]: NaN and Infinity have no JSON form"),
        (numpy.array(["NaT"], "datetime64[s]"), "result: NaT has no JSON form"),
        (pandas.DataFrame({"a": [INFINITE]}), "result[0].a: NaN and Infinity have no JSON form"),
        (pandas.DataFrame([[1, 2]], columns=["a", "a"]), "result: the columns of a DataFrame have the same name twice"),
        (pandas.Series([1, 2], index=["a", "a"]), "result: the index of a Series has the same label twice"),
        (numpy.complex64(1), "result: complex has no JSON form"),
        (LOOP, "result[0].x: list holds itself, and so has no JSON form: it is result again"),
        ([SELF], "result[0].y[0]: tests.clients.test_results.Data holds itself"),
        (MODEL_LOOP, "result.value.value: tests.clients.test_results.Holder holds itself"),
        (DEEP, "result: it is nested too deeply for JSON"),
        ({1: "a", "1": "b"}, "result: two keys of one mapping, such as 1 and '1', have the same JSON form, '1'"),
        ([10**5000], "result[0]: an integer has no JSON form"),
        ([io.StringIO()], "result[0]: _io.StringIO has no JSON form: read it, or give it to submit_tool_result"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_has_no_json_form_is_named_with_its_place(value: object, said: str) -> None:
    """Whatever type it has and however deep it is; nothing else is raised."""
    for _ in range(2):  # what is known of a class is the same the second time
        with pytest.raises(TypeError) as caught:
            encode_result(value)
        assert said in str(caught.value)


def test_the_agent_and_the_caller_are_told_the_place(serve: Serve, connect: Connect) -> None:
    """The agent about its tool's result, the caller about one that was to be submitted."""
    served = serve([Calls("broken", {})], [Calls("look_up", {"word": "x"})], ["done"])
    side = connect(served)
    broken = tool("broken").handler(lambda: {"a": [1j]}).build()
    agent = side.agent({"name": "tester", "tools": [broken, tool("look_up").param("word", string()).build()]})
    (call,) = side.result(agent.send_message("Go")).pending_tool_calls
    assert "result.a[0]: complex has no JSON form" in json.loads(results(served)[0].text)["error"]
    coroutine = nothing()
    with pytest.raises(TypeError, match=r"result\.b: coroutine has no JSON form: await it first"):
        side.result(agent.submit_tool_result(call, {"b": coroutine}))
    coroutine.close()
    side.result(agent.submit_tool_result(call, {"b": 1}))
    assert side.result(agent.wait()).text == "done"


async def nothing() -> None:
    """A coroutine that nobody awaits."""


def picture(mode: str = "RGB") -> Image.Image:
    """A small image."""
    return Image.new(mode, (3, 2))


def pixels(served: Served, message: ConversationMessage) -> list[tuple[str, str, tuple[int, int]]]:
    """The names, types and sizes of the images that a tool's message has."""
    found = []
    for each in message.attachments:
        content = served.run(read(served, each.uri))
        found.append((each.filename, each.content_type, Image.open(io.BytesIO(content)).size))
    return found


async def read(served: Served, uri: str) -> bytes:
    """The content of an uploaded file."""
    import aiohttp

    async with aiohttp.ClientSession() as session, session.get(uri) as response:
        return await response.read()


def test_images_are_uploaded_with_the_result(serve: Serve, connect: Connect) -> None:
    """Alone or among other values; each leaves its file's name in its place, and is sent once."""
    one = picture()
    returned = [
        picture(),
        {"first": one, "again": [one], "other": (picture("CMYK"), {1})},
    ]
    tools = [tool(f"t{number}").handler(lambda value=value: value).build() for number, value in enumerate(returned)]
    served = serve(*([Calls(each.name, {})] for each in tools), ["done"])
    side = connect(served)
    side.result(side.agent({"name": "tester", "tools": tools}).send_message("Go"))
    alone, among = results(served)
    assert json.loads(alone.text) == {"file": "image-1.png"}
    assert pixels(served, alone) == [("image-1.png", "image/png", (3, 2))]
    first, other = {"file": "image-1.png"}, {"file": "image-2.png"}
    assert json.loads(among.text) == {"first": first, "again": [first], "other": [other, [1]]}
    assert pixels(served, among) == [("image-1.png", "image/png", (3, 2)), ("image-2.png", "image/png", (3, 2))]


def test_images_go_with_the_files_of_a_submitted_result(serve: Serve, connect: Connect) -> None:
    """Behind those that the caller gives."""
    served = serve([Calls("look_up", {"word": "x"})], ["done"])
    side = connect(served)
    agent = side.agent({"name": "tester", "tools": [tool("look_up").param("word", string()).build()]})
    (call,) = side.result(agent.send_message("Go")).pending_tool_calls
    side.result(agent.submit_tool_result(call, {"seen": picture()}, files=[b"text"]))
    side.result(agent.wait())
    (told,) = results(served)
    assert json.loads(told.text) == {"seen": {"file": "image-1.png"}}
    assert [each.filename for each in told.attachments][1:] == ["image-1.png"]


def test_too_many_images_are_told_to_the_agent(serve: Serve, connect: Connect) -> None:
    """The service takes 20 files with a result."""
    (told,) = ask(serve, connect, lambda: [picture() for _ in range(21)])
    assert "at most 20" in json.loads(told.text)["error"]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "I;16"])
def test_images_of_every_mode_are_files(mode: str) -> None:
    """Those that PNG does not have are converted."""
    (file,) = encode_result(picture(mode)).images
    assert Image.open(file).size == (3, 2)


@pytest.fixture(scope="module")
def figure() -> Figure:
    """A plot, drawn once before: matplotlib keeps its fonts open."""
    plot = Figure(figsize=(1, 1))
    plot.subplots().plot([1, 2])
    plot.savefig(io.BytesIO())
    return plot


def test_a_figure_is_an_image(figure: Figure) -> None:
    """As a plot of matplotlib's is shown in a notebook."""
    encoded = encode_result({"plot": figure})
    assert json.loads(encoded.text) == {"plot": {"file": "image-1.png"}}
    assert Image.open(encoded.images[0]).format == "PNG"


def test_code_of_the_user_does_not_run_on_the_event_loop(serve: Serve, connect: Connect) -> None:
    """A serializer may block; it runs where sync handlers do."""
    seen = []

    class Slow(pydantic.BaseModel):
        x: int = 1

        @pydantic.field_serializer("x")
        def _write(self, x: int) -> int:
            seen.append(threading.current_thread())
            return x

    handled = []

    def handler() -> Slow:
        handled.append(threading.current_thread())
        return Slow()

    (told,) = ask(serve, connect, handler)
    assert json.loads(told.text) == {"x": 1}
    assert {each.name for each in seen} == {each.name for each in handled}


WITHOUT_OTHERS = """
import sys
sys.modules |= dict.fromkeys(("annotated_types", "msgspec", "numpy", "pandas", "PIL", "pydantic", "typing_extensions"))
import dataclasses, datetime, decimal, enum, uuid
from inferencesh import tool
from inferencesh._types.encoding import encode_result

@dataclasses.dataclass
class Plan:
    wait: datetime.timedelta = datetime.timedelta(days=1)
    price: decimal.Decimal = decimal.Decimal("1.10")
    key: uuid.UUID = uuid.UUID(int=1)

@tool
def make(plan: Plan, wait: datetime.timedelta = datetime.timedelta(hours=1)) -> Plan: return plan

print(make["client"]["input_schema"]["properties"]["wait"]["default"])
print(encode_result(make.bind({"plan": {"wait": "P1DT2S"}}, None)()).text)
"""


def test_no_other_package_is_needed_for_types_of_the_standard_library() -> None:
    """Where none of them is installed, arguments and results are as everywhere."""
    command = [sys.executable, "-c", WITHOUT_OTHERS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.stderr == ""
    default, result = done.stdout.split()
    assert default == "PT3600S"
    assert json.loads(result) == {"wait": "P1DT2S", "price": "1.10", "key": str(uuid.UUID(int=1))}


def test_defaults_are_shown_in_the_form_of_results() -> None:
    """The agent gives such values back as arguments."""

    @tool
    def f(
        price: decimal.Decimal = decimal.Decimal("1.10"),
        wait: datetime.timedelta = datetime.timedelta(days=1),
        sizes: frozenset[Size] = frozenset({Size.SMALL}),
        rate: float = INFINITE,
    ) -> None:
        """F."""

    properties = f["client"]["input_schema"]["properties"]
    shown = {name: schema.get("default") for name, schema in properties.items()}
    assert shown == {"price": "1.10", "wait": "P1D", "sizes": ["s"], "rate": None}

"""The demo model's answers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencesh.local import Conversation, ConversationMessage, DemoModel, OfferedTool, PastCall, Piece, Text, ToolCall
from inferencesh.local._demo.stories import STORIES
from inferencesh.local._demo.tools import fill_arguments, find_expressions

CALCULATOR = OfferedTool("calculator", "Do math", {"type": "object", "properties": {"expression": {"type": "string"}}})
WEATHER = OfferedTool(
    "get_weather",
    "Current weather for a place",
    {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
            "days": {"type": "integer"},
        },
        "required": ["city", "unit"],
    },
)
PAINTER = OfferedTool(
    "generateImage", "Paint a picture", {"properties": {"prompt": {"type": "string"}}, "required": ["prompt"]}
)
TOOLS = (CALCULATOR, WEATHER, PAINTER)


async def answer(prompt: str, *tools: OfferedTool, then: tuple[ConversationMessage, ...] = ()) -> list[Piece]:
    """Everything the model yields."""
    conversation = Conversation(messages=(ConversationMessage("user", prompt), *then), tools=tools)
    return [piece async for piece in DemoModel().respond(conversation)]


async def text(prompt: str, *tools: OfferedTool, then: tuple[ConversationMessage, ...] = ()) -> str:
    """What the model says, which has to be text alone."""
    pieces = await answer(prompt, *tools, then=then)
    assert all(isinstance(piece, Text) for piece in pieces)
    return "".join(piece.text for piece in pieces if isinstance(piece, Text))


def answered(*calls: tuple[PastCall, str]) -> tuple[ConversationMessage, ...]:
    """The messages of a step that called tools, and their results."""
    results = (ConversationMessage("tool", result, tool_call_id=call.id) for call, result in calls)
    return ConversationMessage("assistant", "", tuple(call for call, _ in calls)), *results


def test_it_says_that_it_is_no_language_model() -> None:
    """Its docstring says so."""
    assert "stand-in for a language model" in (DemoModel.__doc__ or "")


@pytest.mark.parametrize("prompt", ["Tell me a story", "tell me a STORY!", "A bedtime tale, please", "I like stories"])
async def test_asked_for_a_story_it_tells_one_word_by_word(prompt: str) -> None:
    """Also when it has tools."""
    pieces = await answer(prompt, *TOOLS)
    assert await text(prompt, *TOOLS) in {story.text for story in STORIES}
    assert all(isinstance(piece, Text) and len(piece.text.split()) == 1 for piece in pieces)


async def test_the_prompt_alone_decides_which_story_it_is() -> None:
    """The same one for the same words; others for others, or for what the story is to be about."""
    assert await text("Tell me a story") == await text("Tell me a story", CALCULATOR)
    assert len({await text(f"Tell me story number {number}") for number in range(40)}) == len(STORIES)
    assert "dragon" in await text("Tell me a story about dragons")
    assert "Ines" in await text("A story set in space")


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.title)
def test_stories_are_short_and_whole(story: Any) -> None:
    """Each story has a moderate length."""
    assert 100 <= len(story.text.split()) <= 200
    assert story.text[-1] in '."?!'
    assert "\n" not in story.text


@pytest.mark.parametrize(
    ("prompt", "expressions"),
    [
        ("What's 42 * 17?", ["42 * 17"]),
        ("What is 42*17", ["42*17"]),
        ("(1 + 2) * -3.5 - 4/2.", ["(1 + 2) * -3.5 - 4/2"]),
        ("2 ** 10 and 7 // 2, then 7 % 2", ["2 ** 10", "7 // 2", "7 % 2"]),
        ("What is 42 times 17?", ["42 * 17"]),
        ("6 divided by 3 plus 1 minus 4", ["6 / 3 + 1 - 4"]),
        ("3 x 4 and 3 × 4 and 2^8", ["3 * 4", "3 * 4", "2 ** 8"]),  # noqa: RUF001 - this is what people type
        ("1,250 * 3", ["1250 * 3"]),
        ("((2 + 3)) * 2", ["((2 + 3)) * 2"]),
        ("(2 + 3", ["2 + 3"]),
        ("10 / 0", ["10 / 0"]),
        ("On 2024-01-02 at 10:30", []),
        ("I have 3 apples", []),
        ("version 4-beta of GPT4-2", []),
        ("call me - please", []),
        ("3 + + 4", []),
        ("", []),
    ],
)
def test_arithmetic_is_found_in_a_sentence(prompt: str, expressions: list[str]) -> None:
    """With the operators as Python writes them, and nothing that only looks like it."""
    assert find_expressions(prompt) == expressions


@given(st.text(alphabet="0123456789.+-*/%^()x, ab", max_size=60))
def test_whatever_is_found_is_arithmetic(sentence: str) -> None:
    """It parses as an expression of numbers and operators, so tools can rely on it."""
    import ast

    for expression in find_expressions(sentence):
        tree = ast.parse(expression, mode="eval")
        allowed = (ast.Expression, ast.BinOp, ast.UnaryOp, ast.Constant, ast.operator, ast.USub)
        assert all(isinstance(node, allowed) for node in ast.walk(tree))


def test_deep_parentheses_are_given_up_on() -> None:
    """A prompt cannot exhaust the stack."""
    assert find_expressions("(" * 10_000 + "1 + 2" + ")" * 10_000) == ["(" * 20 + "1 + 2" + ")" * 20]


async def test_arithmetic_goes_to_the_tool_that_takes_an_expression() -> None:
    """Each expression is a call of its own."""
    assert await answer("What's 42 * 17?", *TOOLS) == [ToolCall("calculator", {"expression": "42 * 17"})]
    calls = await answer("What's 1 + 2 and 3 * 4?", CALCULATOR)
    assert calls == [ToolCall("calculator", {"expression": each}) for each in ("1 + 2", "3 * 4")]


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ("714", "42 * 17 is 714."),
        (" 714\n", "42 * 17 is 714."),
        ('"714"', '42 * 17 is "714".'),
        ('{"error": "division by zero"}', "I could not work out 42 * 17: division by zero."),
        ("Error: out of paper.", "I could not work out 42 * 17: out of paper."),
        ("ZeroDivisionError: division by zero", "I could not work out 42 * 17: division by zero."),
        ("Error", "I could not work out 42 * 17: Error."),
        ('{"status": "not_available", "message": "No such tool"}', "I could not work out 42 * 17: No such tool."),
        ('{"status": "not_available"}', "I could not work out 42 * 17: it is not available."),
    ],
)
async def test_it_words_its_answer_from_the_result(result: str, said: str) -> None:
    """Also when the result is an error, in the forms that clients give it."""
    call = PastCall("call_1", "calculator", {"expression": "42 * 17"})
    assert await text("What's 42 * 17?", CALCULATOR, then=answered((call, result))) == said


async def test_it_words_every_result_since_the_last_prompt() -> None:
    """And none from before it."""
    sums = [PastCall(f"call_{n}", "calculator", {"expression": f"{n} + {n}"}) for n in (1, 2)]
    weather = PastCall("call_3", "get_weather", {"city": "Paris"})
    earlier = answered((sums[0], "2"))
    then = (*earlier, ConversationMessage("user", "More"), *answered((sums[1], "4"), (weather, "sunny")))
    assert await text("What's 1 + 1?", *TOOLS, then=then) == "2 + 2 is 4. The get_weather tool answered: sunny"
    failed = answered((weather, '{"error": "no network"}'))
    assert await text("Weather?", WEATHER, then=failed) == "I could not use the get_weather tool: no network."


@pytest.mark.parametrize(
    ("prompt", "call"),
    [
        ("How is the weather in Paris?", ToolCall("get_weather", {"city": "Paris", "unit": "celsius"})),
        (
            "Weather for New York in fahrenheit for 3 days",
            ToolCall("get_weather", {"city": "New York", "unit": "fahrenheit", "days": 3}),
        ),
        ("Generate an image of a sunset", ToolCall("generateImage", {"prompt": "a sunset"})),
        ('Paint "the sea at night"!', ToolCall("generateImage", {"prompt": "the sea at night"})),
    ],
)
async def test_other_tools_are_picked_by_the_words_they_share_with_the_prompt(prompt: str, call: ToolCall) -> None:
    """Name and description count; arguments come from the prompt."""
    assert await answer(prompt, *TOOLS) == [call]


def of_numbers(name: str) -> OfferedTool:
    """A tool that takes two numbers."""
    number = {"type": "integer"}
    return OfferedTool(name, "", {"properties": {"a": number, "b": number}, "required": ["a", "b"]})


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("What's 42 * 17?", "multiply"),
        ("How much is 42 plus 17?", "add_numbers"),
        ("42-17?", "subtract"),
        ("42 / 17 please", "divide"),
    ],
)
async def test_arithmetic_goes_to_a_tool_named_by_the_operation(prompt: str, name: str) -> None:
    """If none takes an expression; its parameters are the numbers."""
    tools = [of_numbers(each) for each in ("multiply", "add_numbers", "subtract", "divide")]
    assert await answer(prompt, *tools) == [ToolCall(name, {"a": 42, "b": 17})]


async def test_without_a_tool_that_fits_it_says_what_it_is() -> None:
    """It repeats what it was asked, names its tools, and does not do arithmetic by itself."""
    said = await text("Who are\nyou?", CALCULATOR)
    assert said.startswith('You said: "Who are you?".')
    assert "not a language model" in said
    assert "(calculator)" in said
    assert "714" not in await text("What's 42 * 17?")
    assert (await text("")).startswith("You sent no text.")
    assert len(await text("word " * 1000)) < 600


@pytest.mark.parametrize(
    ("prompt", "properties", "required", "arguments"),
    [
        ("Move 3 and 4.5", {"x": {"type": "integer"}, "y": {"type": "number"}}, [], {"x": 3, "y": 4.5}),
        ("Move 4.5 then 3", {"x": {"type": "integer"}, "y": {"type": "number"}}, [], {"x": 3, "y": 4.5}),
        ("Move", {"x": {"type": "integer"}, "y": {"type": "number", "minimum": 0.5}}, ["x", "y"], {"x": 1, "y": 0.5}),
        ("Send it urgently", {"urgently": {"type": "boolean"}, "quiet": {"type": "boolean"}}, [], {"urgently": True}),
        ("Send", {"quiet": {"type": "boolean"}}, ["quiet"], {"quiet": False}),
        ("Send", {"tags": {"type": "array"}, "more": {"type": "object"}}, ["tags", "more"], {"tags": [], "more": {}}),
        ("Go", {"speed": {"default": 7}, "mode": {"const": "fast"}}, ["speed", "mode"], {"speed": 7, "mode": "fast"}),
        ("Go", {"level": {"enum": ["low", "high"]}}, [], {}),
        ("Go", {"level": {"enum": ["low", "high"]}}, ["level"], {"level": "low"}),
        ("Level 2 please", {"level": {"enum": [1, 2]}}, [], {"level": 2}),
        ("Say 'hi' to \"Ada\"", {"a": {"type": "string"}, "b": {"type": "string"}}, [], {"a": "hi", "b": "Ada"}),
        ("Search for cats", {"query": {"type": ["null", "string"]}}, ["query"], {"query": "cats"}),
        ("Note: buy milk", {"text": {"type": "string"}}, [], {"text": "buy milk"}),
        ("Hello!", {"text": {"type": "string"}}, [], {"text": "Hello"}),
        ("?", {"text": {"type": "string"}}, ["text"], {"text": ""}),
        (
            "Fly to Rome",
            {"to": {"type": "object", "properties": {"city": {"type": "string"}}}},
            [],
            {"to": {"city": "Rome"}},
        ),
    ],
)
def test_arguments_are_filled_from_prompt_and_schema(
    prompt: str, properties: dict[str, object], required: list[str], arguments: dict[str, object]
) -> None:
    """What is not mentioned is left out unless it is required."""
    schema = {"type": "object", "properties": properties, "required": required}
    assert fill_arguments(prompt, schema) == arguments


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "properties", "required", "enum", "a", "minimum"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(schema=st.dictionaries(st.sampled_from(["type", "properties", "required"]), JSON), prompt=st.text(max_size=30))
def test_no_schema_is_too_strange(schema: dict[str, object], prompt: str) -> None:
    """Schemas come from clients; whatever they hold, arguments come out."""
    assert isinstance(fill_arguments(prompt, schema), dict)

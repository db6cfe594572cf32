"""The stories of the demo model, with the words that select them."""

from __future__ import annotations

import attrs

__all__ = ["STORIES", "Story"]


@attrs.frozen
class Story:
    """A short story, and the words in a prompt that select it."""

    title: str
    themes: frozenset[str]
    text: str


_LAMP = """\
On an island too small for most maps, a keeper named Oona lit the same lamp every evening for forty \
years. Ships no longer needed it; they steered by satellites and small glowing screens. Still, at \
dusk, she climbed the ninety-one steps, trimmed the wick and wound the brass clockwork by hand. One \
winter a storm took the power from the whole coast, and every screen at sea went dark at once. Out \
on the black water a ferry slowed, turned, and found nothing to turn towards. Then someone on deck \
saw it: one warm light, patient, blinking every seven seconds. They counted it like a heartbeat and \
followed it home. In the morning the captain climbed the stairs with a basket of oranges. "How did \
you know we would need you tonight?" he asked. Oona peeled one slowly and looked out over the quiet \
sea. "I didn't," she said. "That is why I light it every night."
"""

_PLATFORM = """\
When the railway closed, everyone forgot to switch off the robot that swept Platform Nine. It swept \
for a year. Then a dandelion came up between two stones, and the robot stopped, because nothing in \
its instructions said whether a dandelion was dirt. It waited three days for an answer. None came, \
so it decided, carefully, that yellow things could stay. The next spring there were poppies, which \
were red, and it decided about those as well. By the fifth year it had put away the broom and \
learned to carry rain in a dented bucket. Children from the village began to take the long way \
home. One of them asked the robot when the next train was due. It looked along the rails, where \
foxgloves stood taller than the signal. "I believe," it said, "that it has already arrived." And it \
handed her the bucket, because the roses by the clock were thirsty.
"""

_BAKER = """\
Every full moon, Marta's bread refused to rise. She blamed the yeast, then the oven, then her \
brother-in-law, who had looked at the dough in an unhelpful way. Her cat Biscuit knew the real \
reason but had not been asked. On the night of the thirteenth flat loaf Marta sat down on a flour \
sack and asked him. Biscuit walked to the window and looked up, and so, for once, did Marta. She had \
not seen the moon in years; bakers work with their backs to it. It hung over the square, round and \
golden, exactly like a loaf that somebody had remembered to leave alone. "Oh," said Marta. She \
opened the window, set the dough on the sill and did not poke it. By dawn it had risen so high that \
it had to be cut free from the frame. The whole street had breakfast. Biscuit had the butter.
"""

_DRAGON = """\
The dragon returned the book two hundred years late. The librarian, who was new and had been warned \
about difficult readers, put down her tea. "The fine," she said after some arithmetic, "is four \
thousand crowns." The dragon laid a claw's worth of gold on the desk without argument. It was a thin \
book, a guide to the birds of the northern hills, and every margin was filled with small careful \
notes: which nests had failed, which valley had gone quiet, where the last white owl had been seen. \
The librarian read until her tea was cold. "Nobody has watched these birds for a century," she said. \
"Everyone was afraid of the hills." The dragon coughed, and a ring of smoke drifted towards the \
poetry shelves. "They are very good neighbours," it said. She thought for a moment, pushed the gold \
back across the desk and took out a fresh card. "Would you consider," she asked, "writing the second \
edition?"
"""

_STATION = """\
The mail rocket called at Far Station once every six years, and Ines, who kept the telescopes, was \
always dressed for it by noon. This time it brought a single envelope. Inside were a seed and a line \
in her grandmother's hand: plant this where you are. There was no soil on Far Station, so Ines ground \
up moon rock, added tea leaves and the dust of eleven filters, and hoped. For two months nothing \
happened. She turned a lamp on the pot and told it about the comets. In the third month, on a morning \
that was only a number on a clock, a green loop pushed up, let go of its shell and unfolded two \
leaves. It was a bean, a perfectly ordinary bean. Ines wrote to her grandmother at once, knowing that \
the answer would take six years. By then she had a trellis, nine varieties and a soup she was proud \
of, and the charts no longer called the place a station. They called it a garden.
"""

STORIES: tuple[Story, ...] = (
    Story("The Lamp", frozenset({"lighthouse", "sea", "ship", "storm", "island"}), _LAMP.strip()),
    Story(
        "Platform Nine",
        frozenset({"robot", "train", "flower", "railway", "machine"}),
        _PLATFORM.strip(),
    ),
    Story("Bread and Moon", frozenset({"cat", "baker", "bread", "moon", "funny"}), _BAKER.strip()),
    Story(
        "The Overdue Book",
        frozenset({"dragon", "library", "librarian", "book", "bird"}),
        _DRAGON.strip(),
    ),
    Story(
        "Far Station",
        frozenset({"space", "rocket", "star", "garden", "grandmother"}),
        _STATION.strip(),
    ),
)

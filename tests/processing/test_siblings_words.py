"""Forms of sentences by kind: which word is the object, and what is a place."""

import logging

import pytest

from processing_rrsis.expression_rrsis import ExpressionParser

RRSISD, FREE = ExpressionParser("rrsisd"), ExpressionParser(["pier"])
FORMS = {  # kind: (parser, {expression: (object, words of its place)})
    "place told first": (
        RRSISD,
        {
            "to the left of the bridge is a ship": ("ship", "to the left of the bridge"),
            "north of the bridge is a ship": ("ship", "north of the bridge"),
            "above the stadium there is a vehicle": ("vehicle", "above the stadium"),
            "next to the harbor a ship": ("ship", "next to the harbor"),
            "on the right side of the bridge lies a storage tank": ("storage tank", "on the right side of the bridge"),
            "near the dam is the small bridge": ("bridge", "near the dam"),
            "between the bridge and the dam there is a ship": ("ship", "between the bridge and the dam"),
            "in front of the stadium, a vehicle": ("vehicle", "in front of the stadium"),
            "in the ship's vicinity a bridge": ("bridge", "in the ship's vicinity"),
            "astride the dam is a bridge": ("bridge", "astride the dam"),
            "the bridge's left ship": ("ship", "the bridge|left"),
            "the ship to the left of the bridge": ("ship", "to the left of the bridge"),
            "left of the bridge": ("bridge", "left"),
        },
    ),
    "ordinals": (
        RRSISD,
        {
            "the 2nd ship": ("ship", "2nd"),
            "the second ship": ("ship", "second"),
            "the 1st vehicle": ("vehicle", "1st"),
            "the 3rd tennis court": ("tennis court", "3rd"),
            "the 21st vehicle": ("vehicle", "21st"),
            "the 10th ship from the left": ("ship", "10th|from the left"),
            "from the left, the 2nd ship": ("ship", "from the left|2nd"),
        },
    ),
    "prepositions": (
        FREE,
        {
            "the tank without a shadow": ("tank", ""),
            "the tank w/o shadow": ("tank", ""),
            "a house sans windows": ("house", ""),
            "the tank having no shadow": ("tank", ""),
            "the silo nearby the barn": ("silo", "nearby the barn"),
            "the nearby silo": ("silo", ""),
            "the boat astride the reef": ("boat", "astride the reef"),
            "the silo beside the barn": ("silo", "beside the barn"),
            "the house under trees": ("house", "under trees"),
            "the boat amid waves": ("boat", "amid waves"),
            "the tower despite the shade": ("tower", ""),
            "the barn opposite the silo": ("barn", "opposite the silo"),
            "the truck via the bridge": ("truck", ""),
            "everything except the pool": ("", ""),
        },
    ),
}


@pytest.mark.parametrize(
    ("kind", "text"), [(kind, text) for kind, (_, expressions) in FORMS.items() for text in expressions]
)
def test_objects_and_places(kind, text):
    parser, expressions = FORMS[kind]
    parsed = parser.parse(text)
    found = " ".join(parsed.words_of("ground_object")), "|".join(parsed.words_of("spatial_position"))
    logging.getLogger(__name__).info(
        "%-16s %-52s %s", kind, text, "handled" if found == expressions[text] else "wrong"
    )
    assert found == expressions[text]

"""The plain style: short phrases of few different words, for a tiny policy."""

from arpo.world.plain_names import draw_plain_parts
from arpo.world.style import Style


def _queries(word: str, other: str) -> dict[str, float]:
    """Queries by either word of an attribute or by both; a page has one of them."""
    return {f"{{name}} {word}": 4, f"{{name}} {other}": 2, f"{{name}} {word} {other}": 2, f"{{name}} {other} {word}": 1}


PLAIN = Style(
    draw_name_parts=draw_plain_parts,
    inhabitants=range(10, 100),
    questions={
        "birthplace": ("Where was {} born?", "What is the birthplace of {}?"),
        "birth_year": ("When was {} born?", "What is the birth year of {}?"),
        "employer": ("Who employs {}?", "What is the employer of {}?"),
        "seat": ("Where is the seat of {}?", "Where is {} based?"),
        "founding_year": ("When was {} founded?", "What is the founding year of {}?"),
        "region": ("Which region is {} in?", "What is the region of {}?"),
        "inhabitants": ("How many inhabitants has {}?", "How many people live in {}?"),
        "mayor": ("Who is the mayor of {}?", "Who leads {}?"),
        "birthplace_region": ("Which region was {} born in?", "What is the region of the birthplace of {}?"),
        "birthplace_mayor": ("Who is the mayor of the birthplace of {}?", "Who leads the city where {} was born?"),
        "employer_seat": ("Where is the seat of the employer of {}?", "Where is the company based that employs {}?"),
        "seat_region": ("Which region is the seat of {} in?", "Which region is {} based in?"),
        "employer_seat_region": (
            "Which region is the seat of the employer of {} in?",
            "Which region is the company based in that employs {}?",
        ),
        "inhabitants_difference": (
            "How many more inhabitants has {} than {}?",
            "How many more people live in {} than in {}?",
        ),
        "years_between_births": (
            "How many years between the births of {} and {}?",
            "By how many years do the births of {} and {} differ?",
        ),
        "years_between_foundings": (
            "How many years between the foundings of {} and {}?",
            "By how many years do the foundings of {} and {} differ?",
        ),
        "birthplace_difference": (
            "How many more inhabitants has the birthplace of {} than {}?",
            "How many more people live in the birthplace of {} than in {}?",
        ),
        "inhabitants_total": (
            "How many inhabitants have {} and {} in total?",
            "How many people live in {} and {} together?",
        ),
        "birthplaces_total": (
            "How many inhabitants have the birthplaces of {} and {} in total?",
            "How many people live in the birthplaces of {} and {} together?",
        ),
    },
    pages={
        "registry": ("Registry: {name}, {body}.", "{name}, Registry: {body}.", "{name} in the Registry: {body}."),
        "almanac": ("Almanac: {name}, {body}.", "{name}, Almanac: {body}.", "{name} in the Almanac: {body}."),
        "chronicle": ("Chronicle: {name} {body}.", "{name} in the Chronicle: {body}."),
    },
    page_words={},
    statements={
        "birthplace": ("born in {value}", "native of {value}"),
        "birth_year": ("birth year {value}", "came {value}"),
        "employer": ("employer {value}", "works for {value}"),
        "seat": ("seat {value}", "based in {value}"),
        "founding_year": ("founded {value}", "since {value}"),
        "region": ("region {value}", "part of {value}"),
        "inhabitants": ("inhabitants {value}", "people {value}"),
        "mayor": ("mayor {value}", "led by {value}"),
    },
    subjects={},
    remarks={
        "person": ("visited {city} in {year}", "met {person}"),
        "company": ("showed at {city} in {year}", "hired {person}"),
        "city": ("had a fair in {year}", "saw {person}"),
    },
    distractors=("city", "person", "year"),
    nouns={},
    sources={"registry": "Registry", "almanac": "Almanac", "chronicle": "Chronicle"},
    queries={
        "birthplace": _queries("born", "native"),
        "birth_year": _queries("birth", "came"),
        "employer": _queries("employer", "works"),
        "seat": _queries("seat", "based"),
        "founding_year": _queries("founded", "since"),
        "region": _queries("region", "part"),
        "inhabitants": _queries("inhabitants", "people"),
        "mayor": _queries("mayor", "led"),
    },
    vague_query="{name}",
    openings={
        "one": {"look up {name}": 10, "find {name}": 3, "ask about {name}": 1},
        "two": {"first {name}": 5, "begin with {name}": 3, "look up {name}": 2},
        "clear": {"": 4, "so": 4, "found": 3, "good": 2},
        "conflict": {"": 2, "but": 3, "two pages": 3, "compare": 2},
        "nothing": {"nothing": 4, "no answer": 3, "missing": 2},
        "computed": {"": 4, "so": 4, "the": 1},
    },
    findings={
        "{opening} {source}: {value} {plan}": 3,
        "{opening} {source} says {value} {plan}": 2,
        "{opening} {source} states {value} {plan}": 1,
    },
    results={"{opening} result: {value}": 1},
    plans={
        "go_on": {"next": 4, "then": 3, "go on": 2},
        "answer": {"done": 3, "enough": 2},
        "check": {"check": 3, "sure?": 1},
        "compute": {"compute": 3, "calculate": 2},
        "guess": {"guess": 3, "about": 2},
    },
    programs={
        "difference": {"abs({first} - {second})": 3, "print(abs({first} - {second}))": 2},
        "total": {"{first} + {second}": 3, "print({first} + {second})": 2},
        "years": {"abs({first} - {second})": 3, "print(abs({first} - {second}))": 2},
    },
    answers={"\\boxed{{ {value}}}": 1},
    unknown="unknown",
)

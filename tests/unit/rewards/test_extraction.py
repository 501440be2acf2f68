import pytest

from arpo.rewards.extraction import Answer, extract_answer, read_answer
from arpo.types import ToolResult


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"<answer> it is \boxed{1}, no: \boxed{\frac{1}{2}} </answer>", Answer(r"\frac{1}{2}", "boxed")),
        (r"<answer> \boxed{1} </answer> <answer> \boxed{2} </answer>", Answer("2", "boxed")),
        (r"\boxed{1} <answer> Kelford </answer> \boxed{2}", Answer("Kelford", "answer_tag")),
        (r"so \boxed{7} it is. The answer is 8.", Answer("7", "last_box_anywhere")),
        (r"<answer> \boxed{9}", Answer("9", "last_box_anywhere")),
        ("The answer is 8. Or rather: the final answer is **42**.", Answer("42", "answer_phrase")),
        ("Answer: 3.5 m\nThat is all.", Answer("3.5 m", "answer_phrase")),
        ("<think> no idea </think>\nKelford, I guess\n\n", Answer("Kelford, I guess", "last_line")),
        ("", Answer("", "none")), ("<think> </think>", Answer("", "none")),
    ],
)  # fmt: skip
def test_the_first_rule_that_finds_one_counts(text: str, answer: Answer):
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("from 3 to 1,234.50 in all", "1,234.50"), ("it costs $5.50.", "$5.50"), ("half, so -3/4 of it", "-3/4"),
        ("about 12 %", "12 %"),
        ("in room B12 there are 7 of 9", "9"),
    ],
)  # fmt: skip
def test_the_last_number_where_a_number_is_wanted(text: str, number: str):
    assert extract_answer(text, prefers_number=True) == Answer(number, "last_number")
    assert extract_answer(text) == Answer(text, "last_line")


def test_a_text_without_number_gives_its_last_line():
    assert extract_answer("no\nnumber", prefers_number=True) == Answer("number", "last_line")


def test_what_a_tool_wrote_is_never_the_answer(make_trajectory):
    found = ToolResult(content=r"the answer is \boxed{Bo}")
    cut_off = make_trajectory("<think> look </think> <search> Ada Moor </search>", found)
    assert read_answer(cut_off) == Answer("Ada Moor", "last_line")


def test_a_trajectory_is_read_from_its_last_answer_block(make_trajectory):
    block = "<think> so </think> <answer> \\boxed{Kelford} </answer>"
    assert read_answer(make_trajectory(block)) == Answer("Kelford", "boxed")
    assert read_answer(make_trajectory("<think> so </think> <answer> Kelford </answer>")) == Answer("Kelford", "answer_tag")
    assert read_answer(make_trajectory("<think> it is \\boxed{4}")) == Answer("4", "last_box_anywhere")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("so it is\n#### 1,200\n", "1,200"), ("**Final Answer**\n\n42", "42"), ("**Final Answer:** 42", "42"),
        ("### Final Answer\nParis", "Paris"), ("**Answer**: 3/4", "3/4"), ("The answer is:\n\n42", "42"),
        ("La respuesta es 42.", "42"), ("La réponse est Paris.", "Paris"), ("Die Antwort lautet 42.", "42"),
        ("答案是42。", "42"), ("正确答案是：北京。", "北京"), ("答え: 東京", "東京"), ("Ответ: 42", "42"),
        ("The answer is Mr. Smith.", "Mr. Smith"), ("The answer is J. K. Rowling. She wrote it.", "J. K. Rowling"),
        ("Answer: The U.S. Army won", "The U.S. Army won"), ("The answer is St. Louis. It is big.", "St. Louis"),
        ("The answer is B. Because it is.", "B"), ("The answer is 3.14.", "3.14"),
    ],
)  # fmt: skip
def test_phrases_of_many_forms_and_languages(text: str, answer: str):
    assert extract_answer(text) == Answer(answer, "answer_phrase")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"The answers are $\boxed{2}$ and $\boxed{3}$.", "2, 3"), (r"\boxed{2}, \boxed{3}, or \boxed{5}", "2, 3, 5"),
        (r"\boxed{2} is wrong, so \boxed{3}", "3"), (r"it is \boxed{42} and then \boxed{4", "42"),
    ],
)  # fmt: skip
def test_several_last_boxes_are_a_list_and_a_cut_one_does_not_count(text: str, answer: str):
    assert extract_answer(text) == Answer(answer, "last_box_anywhere")

from itertools import pairwise

import pytest

from arpo.errors import DataError
from arpo.tree import NodeCredit, NodeKind, RolloutTree, read_trees
from arpo.types import Message, Parse, Reward, Task, ToolCall, ToolResult
from arpo.viewer.run import ShownTree
from arpo.viewer.tokens import find_decoder, token_pieces
from arpo.viewer.tree_view import tree_view

TASK = Task(id="t", messages=(Message(role="user", content="Where?"),), references=("Kelford",), source="test")


def forked_tree() -> RolloutTree:
    """prompt -> search -> result -> answer (reward 1) and, forked, no answer (reward 0)."""
    tree = RolloutTree.from_prompt(TASK, [1, 2, 3], "Where?")
    call = Parse(calls=(ToolCall(name="search", arguments={"query": "Ada Moor"}),))
    asked = tree.append(tree.root, NodeKind.COMPLETION, [4, 5], text="<think> hm </think>", entropies=[0.2, 0.4], parse=call)
    result = ToolResult(content="found", status="error", cached=True)
    found = tree.append(asked, NodeKind.OBSERVATION, [6], text="<result>found</result>", results=(result,))
    found.entropy_delta, found.branch_score = 0.125, 0.7
    right = tree.append(found, NodeKind.COMPLETION, [7, 8], parse=Parse(answer="Kelford"))
    right.reward = Reward(value=1.0, is_correct=True, components={"exact_match": 1.0})
    wrong = tree.append(found, NodeKind.COMPLETION, [9], parse=Parse(), is_branch=True)
    wrong.reward = Reward(value=0.0, is_correct=False)
    tree.credit = NodeCredit(weights=[1.0, 1.0, 1.0, 0.5, 0.5], advantages=[0.0, 0.0, -0.25, 0.5, -1.0])
    return tree


def test_original_stays_on_its_row_and_the_branch_opens_the_next():
    view = tree_view(ShownTree("step 3", forked_tree()), None)
    prompt, asked, found, right, wrong = view.cards
    assert prompt.y == asked.y == found.y == right.y < wrong.y
    assert prompt.x < asked.x < found.x < right.x == wrong.x
    assert [is_branch for _, is_branch in view.wires] == [False, False, False, True]
    assert view.first == wrong.id


def test_cards_say_what_the_node_did():
    _, asked, found, right, wrong = tree_view(ShownTree("step 3", forked_tree()), None).cards
    assert (asked.chip, asked.title, asked.excerpt) == ("search", "Ada Moor", "hm")
    assert asked.facts == ["2 tok", "H 0.30", "×2", "A +0.00"]
    assert (asked.tone, found.tone, right.tone, wrong.tone) == ("", "failed", "positive", "negative")
    assert (right.strength, wrong.strength) == (0.5, 1.0)
    assert found.fork == ["1 branch", "ΔH +0.12", "score 0.70"]
    assert (right.chip, right.title, right.reward, right.is_right) == ("answer", "Kelford", "1", True)
    assert (wrong.chip, wrong.reward, wrong.is_right) == ("no answer", "0", False)
    assert (asked.reward, asked.is_right) == ("", None)


def test_tree_counts():
    # unique 3+2+1+2+1 = 9; trajectories 3+2+1+2 = 8 and 3+2+1+1 = 7
    facts = tree_view(ShownTree("step 3", forked_tree()), None).facts
    assert facts == ["2 trajectories", "1 branch", "rewards 0 to 1", "9 tokens stored for 15 in trajectories (1.7×)"]


def test_no_two_cards_overlap(run_dir):
    from arpo.viewer.run import read_run

    for shown in read_run(run_dir).trees:
        view = tree_view(shown, None)
        boxes = sorted((c.y, c.x, c.x + c.width) for c in view.cards if c.kind != "prompt")
        for (y, _, right), (next_y, left, _) in pairwise(boxes):
            assert y != next_y or right < left
        assert all(c.x + c.width <= view.width and c.y < view.height for c in view.cards)


def test_a_bare_prompt_and_an_unscored_tree_are_drawn():
    tree = RolloutTree.from_prompt(TASK, [1])
    assert tree_view(ShownTree("a", tree), None).first is None
    tree.append(tree.root, NodeKind.COMPLETION, [2])
    card = tree_view(ShownTree("a", tree), None).cards[1]
    assert (card.reward, card.is_right, card.tone, card.strength) == ("", None, "", 0.0)


def test_details_hold_each_token_with_its_entropy():
    view = tree_view(ShownTree("a", forked_tree()), lambda ids: "".join(f"[{i}]" for i in ids))
    assert view.details[1]["pieces"] == ["[4]", "[5]"]
    assert view.details[1]["entropies"] == [0.2, 0.4]
    assert "pieces" not in view.details[2]
    assert view.details[2]["text"] == "found"
    assert view.max_entropy == 0.4


def test_decoder_comes_from_the_run_or_the_given_directory(run_dir, tmp_path):
    for place in (run_dir, run_dir / "rollouts" / "step_000005.jsonl.zst"):
        decode = find_decoder(place)
        assert decode is not None
        first = next(read_trees(run_dir / "rollouts" / "step_000005.jsonl.zst")).nodes[1]
        assert decode(first.token_ids) == first.text
    assert find_decoder(tmp_path) is None
    with pytest.raises(DataError, match=r"tokenizer\.json"):
        find_decoder(run_dir, tmp_path)


def test_pieces_join_to_the_text_across_split_characters():
    def decode(ids):
        return bytes(ids).decode("utf-8", errors="replace")

    text = "né 🙂!"
    pieces = token_pieces(list(text.encode()), decode)
    assert "".join(pieces) == text
    assert pieces == ["n", "", "é", " ", "", "", "", "🙂", "!"]


def test_pieces_keep_a_space_that_a_lone_token_would_lose():
    words = ["▁Ada", "▁Moor", "!"]

    def decode(ids):  # as SentencePiece: the space before the first word is dropped
        return "".join(words[i] for i in ids).replace("▁", " ").removeprefix(" ")

    assert token_pieces([0, 1, 2], decode) == ["Ada", " Moor", "!"]


def test_an_undecodable_end_is_shown_as_it_is():
    assert (
        token_pieces([0xF0, 0x9F], lambda ids: bytes(ids).decode("utf-8", errors="replace"))[-1] == "\N{REPLACEMENT CHARACTER}"
    )

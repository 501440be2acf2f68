"""Tools of your own: the model reads the docstring, and calls with arguments that fit the type hints.

Try one by hand: arpo tool call stock apples --config rl.toml
"""

STOCK = {"apples": 12, "pears": 7, "plums": 30, "figs": 4, "lemons": 25, "limes": 9, "dates": 16, "grapes": 41}


def stock(item: str) -> str:
    """How many pieces of an item are in stock.

    Args:
        item: Its name, for example apples.
    """
    number = STOCK.get(item.strip().lower())
    return "no such item" if number is None else str(number)

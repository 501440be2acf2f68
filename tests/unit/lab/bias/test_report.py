import json
from pathlib import Path

from arpo.lab.bias.combinations import common_estimators, growth, main_estimators
from arpo.lab.bias.decision_tree import DecisionTree
from arpo.lab.bias.measurement import measure_by_sampling, measure_exactly
from arpo.lab.bias.report import write_study
from arpo.lab.bias.run import BiasStudy


def test_the_tables_say_what_was_measured(tmp_path: Path):
    tree, way = DecisionTree.of_study(), growth("arpo, k = 1", group_size=2, num_initial=1, tops_up=False)
    exact = measure_exactly(tree, way, main_estimators())
    sampled = measure_by_sampling(tree, way, common_estimators(), num_groups=100, seed=0)
    write_study(BiasStudy(exact=exact, further=exact[:1], policies=[exact, exact], sampled=sampled, num_groups=100), tmp_path)
    text = (tmp_path / "bias.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith("| arpo, k = 1 |"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    unbiased = cells[1 + [e.name for e in main_estimators()].index("inverse_branching none")]
    assert unbiased == "0"
    assert float(cells[1]) == round(100 * exact[0].bias, 1)
    assert json.loads((tmp_path / "bias.json").read_text())["num_groups"] == 100
    assert (tmp_path / "bias.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bias.json", "bias.md", "bias.png"]

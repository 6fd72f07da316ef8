"""Rules by data source: what a contradiction and a missing rule tell the user to write."""

import pytest
import yaml

from dft_plugin.config import LossConfig
from dft_plugin.errors import ConflictError, OptionError
from dft_plugin.loss_route import Route


def parse(loss_type, rules):
    return LossConfig.parse(loss_type, {"route": {"by": "dataset", "rules": rules}})


def rules_shown(message):
    """The rules that a message tells the user to write, as YAML reads them."""
    text = message[message.index("rules:\n") :]
    return yaml.safe_load("\n".join(line for line in text.splitlines() if line.startswith(("rules", " "))))["rules"]


def test_rules_that_do_not_train_the_loss_type_are_told_the_lines_to_write():
    with pytest.raises(ConflictError, match="every source not named with dft") as error:
        parse("dft", {"toy": "sft"})
    shown = rules_shown(str(error.value))
    assert shown == {"toy": "sft", "*": "dft"}
    assert "`loss_type: sft`" in str(error.value)
    assert parse("dft", shown).shared.route.has_default
    assert parse("sft", {"toy": "sft"})


def test_another_default_than_the_loss_type_is_told_both_ways_out():
    with pytest.raises(ConflictError, match=r'`loss_type: sft`, or the rule `"\*": dft`'):
        parse("dft", {"toy": "dft", "*": "sft"})


def test_a_source_without_a_rule_is_told_the_lines_to_write():
    route = Route(by="dataset", rules={"toy": {"loss_type": "power", "alpha": 0.5}, "facts": "sft"})
    with pytest.raises(OptionError, match="no rule for 'sums'; its rules: toy, facts") as error:
        route.match(["sums"])
    shown = rules_shown(str(error.value))
    assert shown == {**route.rules, "sums": "power", "*": "power"}
    assert Route(by="dataset", rules=shown).match(["anything"]) == "anything"
    with pytest.raises(OptionError, match="column 'kind' is empty"):
        Route(by="column", column="kind", rules={"*": "dft"}).match([None])

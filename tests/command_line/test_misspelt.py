"""Misspelt settings are answered with what may have been meant."""

import pytest


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("mehtod=chip", "perhaps method"),
        ("lenght=demo", "perhaps length or weights"),
        ("sparsty=macs_30", "perhaps sparsity"),
        ("train.epoch=3", "perhaps train.epochs"),
    ],
)
def test_a_misspelt_setting_is_answered_with_the_group_or_key_that_is_meant(cli, word, meant):
    code, printed = cli(word)
    assert code == 1
    assert printed.strip().endswith(f"there is no setting {word.partition('=')[0]} in what has been chosen; {meant}")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["optimizer@train.optimzer=adamw"],
            "there is no train.optimzer in what has been chosen, for which 'optimizer' could be chosen; "
            "perhaps optimizer@finetune.optimizer, optimizer@train.optimizer",
        ),
        (
            ["experiment=chip/resnet56_cifar10_47", "method=resrep"],
            "there is no finetune.callbacks.prune in what has been chosen, for which 'prune' could be chosen; "
            "an experiment goes with methods of the same phases",
        ),
    ],
)
def test_a_choice_for_a_place_that_is_not_there_is_answered_with_what_goes(cli, words, told):
    code, printed = cli(*words)
    assert code == 1
    assert printed.strip().endswith(told)


def test_a_command_without_the_group_does_not_offer_it(monkeypatch):
    from pruning_lit.export import main

    monkeypatch.setattr("sys.argv", ["export", "mehtod=chip"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert "there is no setting mehtod" in str(stop.value.code)
    assert "method" not in str(stop.value.code)

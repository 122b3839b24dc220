import pytest

from mubench_ray.errors import SuiteError
from mubench_ray.suite import load_suite

GOOD = "name: s\ntasks: digits\nmodels: cnn-small\nmethods: [ft]\n"


def refusal(tmp_path, text: str) -> str:
    path = tmp_path / "s.yaml"
    path.write_text(text)
    with pytest.raises(SuiteError) as caught:
        load_suite(path)
    assert "s.yaml" in str(caught.value)
    return str(caught.value)


def test_the_least_a_suite_says(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(GOOD)
    assert [m.name for m in load_suite(path).methods] == ["ft"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD.replace("digits", "digit"), ["Unknown task 'digit'", "Did you mean 'digits'"]),
        (GOOD.replace("[ft]", "[scrubb]"), ["methods[0]", "Unknown method 'scrubb'", "'scrub'"]),
        (GOOD.replace("cnn-small", "resnet19"), ["Unknown model 'resnet19'", "resnet18"]),
        (GOOD + "ratois: 5\n", ["ratois: unknown key", "'ratios'"]),
        (GOOD + "ratios: 0\n", ["ratios[0] = 0", "greater than 0"]),
        (GOOD + "ratios: [5, 101]\n", ["ratios[1] = 101", "less than 100"]),
        (GOOD + "seeds: [a]\n", ["seeds[0] = 'a'"]),
        (GOOD + "lrs: -1\n", ["lrs[0] = -1"]),
        (GOOD + "sampler: uniforn\n", ["Unknown sampler 'uniforn'", "'uniform'"]),
        (GOOD.replace("[ft]", "[{name: ft, epoch: 3}]"), ["methods[0]", "no hyperparameter 'epoch'", "'epochs'"]),
        (GOOD.replace("[ft]", "[{name: neggrad_plus, alpha: high}]"), ["methods[0]", "alpha = 'high'", "not a number"]),
        ("tasks: digits\nmodels: cnn-small\nmethods: ft\n", ["name: is missing"]),
        ("- a\n- b\n", ["a suite is a mapping"]),
        ("name: [unclosed\n", ["line", "not valid YAML"]),
        (GOOD.replace("[ft]", "[]"), ["methods = []"]),
        (GOOD.replace("models: cnn-small\n", ""), ["tasks[0]", "no models"]),
        (GOOD.replace("digits", "{name: digits, models: vit-tini}"), ["tasks[0].models", "'vit-tiny'"]),
        (GOOD + "resources: {gpu: 1}\n", ["resources.gpu: unknown key", "gpus"]),
        (GOOD + "plugins: nowhere.py\n", ["nowhere.py does not exist"]),
    ],
)
def test_errors_name_the_key_the_value_and_the_choices(tmp_path, text, said):
    message = refusal(tmp_path, text)
    for words in said:
        assert words in message, message


def test_names_are_found_in_any_spelling(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(
        "name: s\ntasks: Digits\nmodels: CNN-small\nmethods: [NG+, Bad-T, RandLabel, GA, SalUn, SCRUB]\nlrs: 1e-4\n"
    )
    suite = load_suite(path)
    assert [m.name for m in suite.methods] == ["neggrad_plus", "bad_t", "rand_label", "neggrad", "salun", "scrub"]
    assert suite.lrs == [1e-4]


@pytest.mark.parametrize("seed", [-1, 2**32, 2**40])
@pytest.mark.parametrize("field", ["seeds", "forget_seeds", "training_seeds", "search.seeds"])
def test_seeds_that_no_generator_takes_are_refused(tmp_path, field, seed):
    """numpy's legacy generators and scikit-learn take 0 to 2^32 - 1."""
    *outer, last = field.split(".")
    text = GOOD + (f"{outer[0]}: {{{last}: [7, {seed}]}}\n" if outer else f"{last}: [7, {seed}]\n")
    said = refusal(tmp_path, text)
    assert f"{field}[1] = {seed}:" in said


def test_the_least_and_the_greatest_seed_are_taken(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(GOOD + f"seeds: [0, {2**32 - 1}]\nforget_seeds: {2**32 - 1}\ntraining_seeds: 0\n")
    assert load_suite(path).seeds == [0, 2**32 - 1]

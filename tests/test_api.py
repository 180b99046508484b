"""The public functions: what they accept, how their results show themselves, and how their errors name arguments."""

import inspect
import subprocess
import sys
from typing import get_args, get_type_hints

import numpy as np
import pytest

import modgap
from modgap import discrepancy
from modgap.answers.text import format_table
from modgap.errors import InputError, UsageError

TABLE = "v1,v2,class_number\n1.5,2,0\n3.5,4,1\n5.5,6,0\n"


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text(TABLE)
    return path


def test_every_public_function_is_imported_when_it_is_used():
    for name in modgap.__all__:
        assert getattr(modgap, name)
    with pytest.raises(
        AttributeError, match="It offers: TransferClassifier, TransferRegressor, compare, estimate, feat"
    ):
        modgap.nosuch  # noqa: B018


def test_the_further_options_are_those_of_the_estimators():
    parameters = inspect.signature(discrepancy.estimate).parameters
    options = {name: one.annotation for name, one in parameters.items() if one.kind is one.KEYWORD_ONLY}
    of_samples = {"groups", "merged_groups"}
    for function in (modgap.estimate, modgap.measure):
        named = inspect.signature(function).parameters
        (fields,) = get_args(named["options"].annotation)
        expected = {name: one for name, one in options.items() if name not in {*named, *of_samples}}
        assert get_type_hints(fields) == expected


def test_importing_modgap_imports_no_large_library():
    code = "import sys, modgap; print([name for name in ('torch', 'numpy', 'numba', 'pandas') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_custom_data_is_a_mapping_of_its_fields(table):
    target = modgap.open_target(table, custom_data={"kind": "series", "label_column": "class_number"})
    assert list(target.read().classes) == ["0", "1"]
    with pytest.raises(UsageError, match=r"Unknown field of custom_data 'label'\. .*label_column"):
        modgap.open_target(table, custom_data={"label": "class_number"})


@pytest.mark.parametrize(
    ("custom_data", "message"),
    [
        ({"label_column": "class_number"}, 'Pass `custom_data={"kind": "table"}` or `custom_data={"kind": "series"}`'),
        ({"kind": "series"}, 'Name it with `custom_data={"label_column": "COLUMN"}`'),
        ({"kind": "series", "x_name": "a"}, '`custom_data["x_name"]` does not apply to target'),
        ({"kind": "series", "time_column": "a"}, '`custom_data["time_column"]` needs `custom_data["series_column"]`'),
    ],
)
def test_messages_name_the_fields_of_custom_data(table, custom_data, message):
    with pytest.raises(UsageError) as error:
        modgap.measure("vit-fashion", str(table), custom_data=custom_data)
    assert message in str(error.value)
    assert "--" not in str(error.value)


def test_messages_name_the_arguments_with_their_values():
    labels = np.arange(12) % 3
    with pytest.raises(InputError, match=r"Compare some of the classes at a time with `classes=2`, or use"):
        modgap.estimate(np.zeros((12, 2)), labels)
    with pytest.raises(UsageError, match=r"^`weights` does not apply to a random: source"):
        modgap.open_source("random:vit-fashion", weights="other.safetensors")


def test_a_table_as_text_is_not_also_displayed_in_a_notebook(monkeypatch):
    displayed = []
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setattr("rich.jupyter.display", lambda *arguments: displayed.append(arguments))
    assert format_table(["a"], [["1"]]).splitlines()[-1] == "1"
    assert displayed == []


def test_numbers_stay_right_aligned_beside_a_state():
    rows = [["a", "+1.5 %", "cat", ""], ["b", "20 %", "3d", "no data"], ["c", "failed", "dog", "-"]]
    lines = [line.rstrip() for line in format_table(["model", "error", "class", "reason"], rows).splitlines()[-3:]]
    assert lines == ["a      +1.5 %  cat", "b        20 %  3d     no data", "c      failed  dog    -"]


def test_the_printed_result_says_that_groups_are_taken_into_account():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    logits = rng.standard_normal((60, 4))
    options = {"estimators": "search", "permutations": 0, "trials": 50}
    sentence = "Splits and permutations take the groups into account."
    with_groups = modgap.estimate(logits, labels, groups=np.arange(60) // 6, **options)
    assert sentence in " ".join(str(with_groups).split())
    assert sentence not in " ".join(str(modgap.estimate(logits, labels, **options)).split())

"""containerd's filter language, by itself."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphdriver.containerd.filters import fields_of, parse_all
from graphdriver.errors import MalformedRequestError

LABELS = {"simple": "one", "containerd.io/gc.root": "2024", "empty": "", "a b": "c,d"}
SNAPSHOT = fields_of("k8s.io/1/sha256:ab", "k8s.io/1/sha256:cd", "Committed", LABELS)


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("", True),
        ("name", True),
        ("nothing", False),
        ("labels", False),
        ("labels.simple", True),
        ("labels.empty", True),
        ("labels.nothing", False),
        ("name.more", False),
        ("name==k8s.io/1/sha256:ab", True),
        ("name==k8s.io/1/sha256:a", False),
        ("name!=k8s.io/1/sha256:a", True),
        ("name!=k8s.io/1/sha256:ab", False),
        ("kind==Committed", True),
        ("labels.nothing==x", False),
        ("labels.nothing!=x", True),
        ('labels.nothing!=""', False),
        ('labels.nothing==""', False),
        ('labels.empty==""', True),
        ('labels."containerd.io/gc.root"==2024', True),
        ('labels."containerd.io/gc.root"', True),
        ("labels.containerd", False),
        ('labels."a b"=="c,d"', True),
        ('labels."a b"=="c\\u002cd"', True),
        ("parent~=sha256:cd$", True),
        ("parent~=^sha256", False),
        ('parent~="k8s[.]io/[0-9]"', True),
        ("parent~=/sha256:c./", True),
        ("parent~=|1/sha256|", True),
        ("name , kind==Committed", True),
        ("name==x,kind==Committed", False),
        (" kind == Committed ", True),
        ("labels.simple==one,labels.empty", True),
        ("labels.simple==one,labels.nothing", False),
    ],
)
def test_a_filter_lets_pass_what_it_says(text: str, passes: bool) -> None:
    assert parse_all([text])(SNAPSHOT) is passes


def test_of_several_filters_one_is_enough_and_none_lets_all_pass() -> None:
    assert parse_all([])(SNAPSHOT)
    assert parse_all(["name==x", "kind==Committed"])(SNAPSHOT)
    assert not parse_all(["name==x", "kind==Active"])(SNAPSHOT)


def test_a_snapshot_upon_nothing_has_the_empty_parent() -> None:
    for text in ("parent", 'parent==""', "parent!=sha256:ab"):
        assert parse_all([text])(fields_of("a", "", "Active", {}))
    assert not parse_all(['parent!=""'])(fields_of("a", "", "Active", {}))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("name==", "at 6: expected a value"),
        ("==x", "at 0: expected the name of a field"),
        ("name=x", "at 4: expected a comma"),
        ("name==a b", "at 8: expected a comma"),
        ("name==a,,kind", "at 8: expected the name of a field"),
        ("labels.", "at 7: expected the name of a field"),
        ('labels."a', "at 7: expected the name of a field"),
        ('name=="\\q"', "is not quoted correctly"),
        ("name~=/abc", "the second / is missing"),
        ("name~=|abc", "the second | is missing"),
        ('name~="("', "is not a regular expression"),
    ],
)
def test_what_is_no_filter_is_refused_and_told_where(text: str, why: str) -> None:
    with pytest.raises(MalformedRequestError) as caught:
        parse_all(["name", text])
    assert why in str(caught.value)
    assert repr(text) in str(caught.value)


KEYS = st.sampled_from(["a", "b.c", "d e", 'q"', "é"])
VALUES = st.sampled_from(["", "x", "x y", "x,y", '"', "\\", "~=|/", "é\n"])
SELECTORS = st.lists(
    st.tuples(KEYS, st.sampled_from(["", "==", "!=", "~="]), VALUES), min_size=1, max_size=4
)


def holds(labels: dict[str, str], key: str, operator: str, value: str) -> bool:
    match operator:
        case "":
            return key in labels
        case "==":
            return key in labels and labels[key] == value
        case "!=":
            return labels.get(key, "") != value
        case _:
            return re.search(re.escape(value), labels.get(key, "")) is not None


@given(st.dictionaries(KEYS, VALUES), SELECTORS)
def test_quoted_keys_and_values_mean_themselves(
    labels: dict[str, str], selectors: list[tuple[str, str, str]]
) -> None:
    texts = []
    for key, operator, value in selectors:
        said = json.dumps(re.escape(value) if operator == "~=" else value) if operator else ""
        texts.append(f"labels.{json.dumps(key)}{operator}{said}")
    found = parse_all([",".join(texts)])(fields_of("n", "", "Active", labels))
    assert found is all(holds(labels, *each) for each in selectors)


@given(st.text("name=~!,.\"/|\\ x'labels", max_size=20))
def test_any_text_is_a_filter_or_refused(text: str) -> None:
    try:
        parse_all([text])(SNAPSHOT)
    except MalformedRequestError as error:
        assert "the filter" in str(error)

"""The expression language: what is read, what is printed, what is refused."""

from __future__ import annotations

import sys
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.compile import to_function
from search_spaces.expression import Call, Const, Param, Var, call, depth, params, size
from search_spaces.operators import OPERATORS
from search_spaces.parser import MAX_DEPTH, ParseError, parse
from tests.expressions import EXPRESSIONS, evaluate_text

X = Var("x")


@given(EXPRESSIONS)
def test_printing_then_parsing_gives_the_same_tree(expression):
    assert parse(str(expression)) == expression


@given(EXPRESSIONS)
def test_values_agree_with_python_and_numpy(expression):
    x = np.array([-3.1, -0.7, -0.01, 0.02, 0.9, 2.3])
    values = {name: 0.3 + 0.4 * i for i, name in enumerate(params(expression))}
    tensors = {name: torch.tensor(v, dtype=torch.float64) for name, v in values.items()}
    expected = evaluate_text(str(expression), x, **values)
    actual = to_function(expression)(torch.from_numpy(x), **tensors).numpy()
    well = np.isfinite(expected) & (np.abs(expected) < 1e12)  # near a pole or an overflow the last bits are amplified
    np.testing.assert_allclose(actual[well], expected[well], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("x*sigmoid(beta*x)", call("mul", X, call("sigmoid", call("mul", Param("beta"), X)))),
        ("-x**2", call("neg", call("square", X))),
        ("(-x)**2", call("square", call("neg", X))),
        ("x**3", call("cube", X)),
        ("2**-x", call("pow", Const(2), call("neg", X))),
        ("x**0.5**2", call("pow", X, call("square", Const(0.5)))),
        ("x-1-2", call("sub", call("sub", X, Const(1)), Const(2))),
        ("x-(1-2)", call("sub", X, call("sub", Const(1), Const(2)))),
        ("-2", Const(-2)),
        ("-(2)", call("neg", Const(2))),
        ("  max( x,\t0 ) ", call("max", X, Const(0))),
        ("1e-5", Const(1e-5)),
        (".5", Const(0.5)),
        ("x1 * x2", call("mul", Var("x1"), Var("x2"))),
    ],
)
def test_grammar(text, tree):
    assert parse(text) == tree


@pytest.mark.parametrize(
    ("text", "message", "position"),
    [
        ("", "found the end", 0),
        ("x +", "found the end", 3),
        ("x x", "expected the end or an operator", 2),
        ("sigmod(x)", "did you mean 'sigmoid'", 0),
        ("x * foo(x)", "unknown operator 'foo'", 4),
        ("max(x)", "takes 2 operand(s), got 1", 0),
        ("tanh", "needs its operands in brackets", 0),
        ("y", "the input is x", 0),
        ("x $ 2", "unexpected character '$'", 2),
        ("x^2", "unexpected character '^'; a power is written x ** 2", 1),
        ("x.real", "unexpected character '.'", 1),
        ("x.__class__", "unexpected character '.'", 1),
        ("__import__(x)", "unknown operator '__import__'", 0),
        ("'x'", "unexpected character", 0),
        ("[x]", "unexpected character", 0),
        ("lambda: x", "unexpected character ':'", 6),
        ("(x", "expected ')'", 2),
        ("1e999", "too large", 0),
        ("\u0445", "unexpected character", 0),  # Cyrillic ha
        ("\uff58", "unexpected character", 0),  # full-width x, which Python's own parser would take for x
        ("x\u00b2", "unexpected character", 1),
        ("\u0663", "unexpected character", 0),  # an Arabic digit
        ("x\x00", "unexpected character", 1),
    ],
)
def test_refusals_name_the_fault_and_mark_the_place(text, message, position):
    with pytest.raises(ParseError) as caught:
        parse(text)
    assert message in str(caught.value)
    assert caught.value.position == position
    lines = str(caught.value).splitlines()
    assert lines[-1].index("^") == 2 + position


@pytest.mark.parametrize(
    "text",
    [
        "(" * 10_000,
        "(" * 4_000 + "x" + ")" * 4_000,
        "-" * 9_000 + "x",
        "+".join("x" * 4_000),
        "x" * 1_000_000,
        "sin(" * 2_000 + "x" + ")" * 2_000,
        "x**" * 3_000 + "x",
        "9" * 9_000,
        "(" * 500_000 + ")" * 500_000,
        ")" * 1_000_000,
        "max(x," * 150_000,
        "\u0000" * 1_000_000,
        "x" + "\u0301" * 1_000_000,  # combining accents
        "\U0001d431" * 9_999,  # mathematical bold x
        "x\u202e)(nis",  # right-to-left override
        "x;import os",
        "x if x else x",
        "x := 1",
        "f'{x}'",
        "().__class__.__bases__",
        "x.__init__.__globals__",
        "getattr(x, x)",
        "open(x)",
        "x@x",
        "x // 2",
        "x ** ** 2",
        "0x10",
        "1_000",
        "1j",
        "nan",
        "inf",
        "True",
        "\u00b5",
        "\ufeffx",
        "x\u00a0+ 1",  # a no-break space
        "\uff08x\uff09",  # full-width brackets
    ],
)
def test_large_input_is_refused_quickly(text):
    start = time.monotonic()
    with pytest.raises(ParseError):
        parse(text)
    assert time.monotonic() - start < 1  # linear in the input: milliseconds


_FRAGMENTS = st.sampled_from(
    [
        *OPERATORS,
        "x",
        "beta",
        "(",
        ")",
        ",",
        "+",
        "-",
        "*",
        "**",
        "/",
        "1",
        "1e-5",
        ".5",
        " ",
        ".",
        "__class__",
        "²",
        "х",
    ]
)


@given(
    st.one_of(
        st.text(),
        st.text("x()+-*/,. 0123456789ebtasinmpx_"),
        st.lists(_FRAGMENTS, max_size=40).map("".join),
        st.binary().map(lambda b: b.decode("latin-1")),
        st.binary().map(lambda b: b.decode("utf-8", "surrogateescape")),
    )
)
def test_any_text_is_read_or_refused(text):
    try:
        expression = parse(text)
    except ParseError:
        return
    assert parse(str(expression)) == expression
    assert depth(expression) <= MAX_DEPTH


def test_the_deepest_allowed_expression_prints_and_parses_within_the_recursion_limit():
    text = "sin(" * (MAX_DEPTH - 1) + "x" + ")" * (MAX_DEPTH - 1)
    limit = sys.getrecursionlimit()  # torch.compile raises it for the whole process
    sys.setrecursionlimit(1000)  # Python's own
    try:
        assert str(parse(text)) == text
    finally:
        sys.setrecursionlimit(limit)


def test_size_and_depth():
    expression = parse("x * sigmoid(beta * x)")
    assert (size(expression), depth(expression)) == (6, 4)


def test_trees_cannot_be_built_wrong():
    with pytest.raises(ValueError, match="unknown operator"):
        Call("system", (X,))
    with pytest.raises(ValueError, match="takes 2"):
        call("add", X)
    with pytest.raises(ValueError, match="finite"):
        Const(float("nan"))
    with pytest.raises(ValueError, match="parameter is"):
        Param("__class__")
    with pytest.raises(ValueError, match="variable is"):
        Var("self")

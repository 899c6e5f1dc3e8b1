"""The expression language's parser: text in, :class:`~search_spaces.expression.Expression` out, nothing is evaluated.

Grammar (loosest binding first; the binary operators of a line are left-associative, ``**`` is right-associative)::

    sum     = product (("+" | "-") product)*
    product = unary (("*" | "/") unary)*
    unary   = "-" unary | power
    power   = atom ["**" unary]
    atom    = number | name | name "(" sum ("," sum)* ")" | "(" sum ")"

``x ** 2`` and ``x ** 3`` are the operators square and cube. A minus directly before a number belongs to the number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from search_spaces.expression import PARAM_NAME, VARIABLES, Call, Const, Expression, Param, Var, depth
from search_spaces.operators import OPERATORS
from search_spaces.registry import nearest

MAX_LENGTH = 10_000
MAX_DEPTH = 64

_TOKEN = re.compile(
    r"[ \t\r\n]*(?:(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<symbol>\*\*|[-+*/(),]))",
    re.ASCII,
)
_INFIX = {"+": "add", "-": "sub", "*": "mul", "/": "div"}


class ParseError(ValueError):
    """Text that is not an expression. ``str()`` shows the text with a caret under the fault."""

    def __init__(self, message: str, text: str, position: int) -> None:
        self.message = message
        self.position = position
        start = max(0, position - 60)
        shown = "".join(c if c.isprintable() else "?" for c in text[start : position + 20])
        lead = "..." if start else ""
        tail = "..." if position + 20 < len(text) else ""
        caret = " " * (len(lead) + position - start) + "^"
        super().__init__(f"{message}\n  {lead}{shown}{tail}\n  {caret}")


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    position: int


def parse(text: str) -> Expression:
    """Read an expression. Raises :class:`ParseError` for anything that is not one."""
    if len(text) > MAX_LENGTH:
        raise ParseError(f"an expression has at most {MAX_LENGTH} characters, got {len(text)}", text, MAX_LENGTH)
    parser = _Parser(text, _tokenize(text))
    expression = parser.sum()
    parser.expect("end")
    if depth(expression) > MAX_DEPTH:  # a long chain a + b + c + ... is deep without being nested
        raise ParseError(f"an expression has at most {MAX_DEPTH} levels, got {depth(expression)}", text, 0)
    return expression


def _tokenize(text: str) -> list[_Token]:
    tokens, position = [], 0
    end = len(text.rstrip(" \t\r\n"))
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None:
            bad = position + len(text[position:]) - len(text[position:].lstrip(" \t\r\n"))
            hint = "; a power is written x ** 2" if text[bad] == "^" else ""
            raise ParseError(f"unexpected character {text[bad]!r}{hint}", text, bad)
        assert match.lastgroup is not None
        tokens.append(_Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)))
        position = match.end()
    tokens.append(_Token("end", "", end))
    return tokens


class _Parser:
    """Recursive descent over a token list; the depth limit keeps the recursion bounded."""

    def __init__(self, text: str, tokens: list[_Token]) -> None:
        self.text = text
        self.tokens = tokens
        self.index = 0
        self.depth = 0

    @property
    def token(self) -> _Token:
        return self.tokens[self.index]

    def fail(self, message: str, at: _Token | None = None) -> ParseError:
        return ParseError(message, self.text, (at or self.token).position)

    def accept(self, *texts: str) -> _Token | None:
        token = self.token
        if token.kind == "symbol" and token.text in texts:
            self.index += 1
            return token
        return None

    def expect(self, what: str) -> None:
        token = self.token
        if token.kind == "end" and what == "end":
            return
        if what == "end" or not self.accept(what):
            wanted = "the end or an operator" if what == "end" else repr(what)
            found = "the end" if token.kind == "end" else repr(token.text)
            raise self.fail(f"expected {wanted}, found {found}")

    def sum(self) -> Expression:
        left = self.product()
        while token := self.accept("+", "-"):
            left = Call(_INFIX[token.text], (left, self.product()))
        return left

    def product(self) -> Expression:
        left = self.unary()
        while token := self.accept("*", "/"):
            left = Call(_INFIX[token.text], (left, self.unary()))
        return left

    def unary(self) -> Expression:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.fail(f"an expression is nested at most {MAX_DEPTH} deep")
        try:
            if not self.accept("-"):
                return self.power()
            literal = self.token.kind == "number"
            operand = self.unary()
            if literal and isinstance(operand, Const):
                return Const(-operand.value)
            return Call("neg", (operand,))
        finally:
            self.depth -= 1

    def power(self) -> Expression:
        base = self.atom()
        if not self.accept("**"):
            return base
        exponent = self.unary()
        if exponent == Const(2):
            return Call("square", (base,))
        if exponent == Const(3):
            return Call("cube", (base,))
        return Call("pow", (base, exponent))

    def atom(self) -> Expression:
        token = self.token
        if token.kind == "number":
            self.index += 1
            value = float(token.text)
            if value == float("inf"):
                raise self.fail(f"the number {token.text[:20]} is too large", token)
            return Const(value)
        if token.kind == "name":
            self.index += 1
            return self.call(token) if self.accept("(") else self.leaf(token)
        if self.accept("("):
            inner = self.sum()
            self.expect(")")
            return inner
        found = "the end" if token.kind == "end" else repr(token.text)
        raise self.fail(f"expected a number, a name or '(', found {found}")

    def leaf(self, token: _Token) -> Expression:
        if token.text in VARIABLES:
            return Var(token.text)
        if PARAM_NAME.fullmatch(token.text):
            return Param(token.text)
        if token.text in OPERATORS:
            raise self.fail(f"operator {token.text} needs its operands in brackets: {token.text}(...)", token)
        raise self.fail(
            f"unknown name {token.text[:40]!r}; the input is x, a learnable parameter is alpha, beta, gamma or delta, "
            "optionally numbered",
            token,
        )

    def call(self, name: _Token) -> Expression:
        if name.text not in OPERATORS:
            raise self.fail(f"unknown operator {name.text[:40]!r}; {nearest(name.text[:40], OPERATORS)}", name)
        args = [self.sum()]
        while self.accept(","):
            args.append(self.sum())
        self.expect(")")
        arity = OPERATORS[name.text].arity
        if len(args) != arity:
            raise self.fail(f"operator {name.text} takes {arity} operand(s), got {len(args)}", name)
        return Call(name.text, tuple(args))

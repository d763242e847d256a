"""Row expressions of `--where` and `--holdout`, such as `params < 1e9 and status == 'done'`.

They are parsed by `ast` and evaluated on columns.

Owns the small language: comparisons (chained ones too), arithmetic, `and or not in`, numbers, texts, column names,
and backticks around names with blanks. Nothing is executed: no calls, attributes, subscripts or `@`. It must not
know what the columns mean.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd

from analysis.errors import UserError
from models.config.checks import nearest_names

MAX_LENGTH = 2000
"""Longest expression in characters; longer ones are refused."""
MAX_DEPTH = 40
"""Deepest nesting that is evaluated."""

_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_REFUSED: dict[type[ast.AST], str] = {
    ast.Attribute: "a dot after a name",
    ast.Call: "a call",
    ast.Subscript: "an index in brackets",
    ast.IfExp: "if with else",
    ast.Lambda: "lambda",
    ast.Dict: "a dictionary",
    ast.List: "a list without `in` before it",
    ast.Tuple: "a list without `in` before it",
    ast.JoinedStr: "a formatted text",
}
"""What people write that expressions do not know, in their words."""


def nearest(name: str, known: Iterable[str], *, count: int = 3) -> str:
    """What a message says about a misspelt name.

    Parameters
    ----------
    name : str
        The name.
    known : iterable of str
        The names that there are.
    count : int
        Most names that are called near.

    Returns
    -------
    str
        ` (nearest: a, b)`, else the first of the known names; empty when none is known.
    """
    names = [str(item) for item in known]
    close = nearest_names(name, names, count=count)
    if close:
        return f" (nearest: {', '.join(close)})"
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return f" (there are: {shown})" if names else ""


def evaluate(expression: str, frame: pd.DataFrame) -> pd.Series:
    """Evaluate an expression over the columns of a frame, row by row.

    Parameters
    ----------
    expression : str
        Comparisons, arithmetic, `and or not in`, numbers, texts and column names.
    frame : DataFrame
        The columns.

    Returns
    -------
    Series
        On the index of `frame`. A comparison with a missing value is False, but for `!=`.

    Raises
    ------
    UserError
        For anything outside the language, an unknown column (with the nearest names), or types that do not go together.
    """
    source, quoted = _without_backticks(expression)
    if len(expression) > MAX_LENGTH:
        raise UserError(f"the expression has {len(expression)} characters; at most {MAX_LENGTH} are read, shorten it")
    try:
        tree = ast.parse(source.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        bare = expression.replace("==", "").replace("<=", "").replace(">=", "").replace("!=", "")
        hint = " (use == to compare)" if "=" in bare else ""
        raise UserError(
            f"cannot read the expression {expression[:80]!r}: {getattr(error, 'msg', error)}{hint}"
        ) from error
    try:
        with np.errstate(all="ignore"):
            value = _Evaluator(expression, frame, quoted).visit(tree.body, 0)
    except (TypeError, ValueError, ArithmeticError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"cannot evaluate {expression[:80]!r}: {error}; check that numbers are compared with numbers"
        ) from error
    if isinstance(value, pd.Series):
        return value
    return pd.Series([value] * len(frame), index=frame.index)


def select_rows(expression: str, frame: pd.DataFrame) -> pd.Series:
    """The rows for which an expression is true.

    Parameters
    ----------
    expression : str
        A condition.
    frame : DataFrame
        The columns.

    Returns
    -------
    Series of bool
        On the index of `frame`.

    Raises
    ------
    UserError
        When it is no condition, or cannot be evaluated.
    """
    value = evaluate(expression, frame)
    if value.dtype != bool and not all(isinstance(item, (bool, np.bool_)) for item in value):
        raise UserError(f"{expression[:80]!r} is not a condition; write a comparison such as 'flops < 1e21'")
    return value.astype(bool)


def _without_backticks(expression: str) -> tuple[str, dict[str, str]]:
    """Replace every backticked column name outside of quotes by a plain identifier."""
    out: list[str] = []
    names: dict[str, str] = {}
    quote: str | None = None
    position = 0
    while position < len(expression):
        letter = expression[position]
        if quote is None and letter == "`":
            end = expression.find("`", position + 1)
            if end < 0:
                raise UserError(
                    f"a backtick is not closed in {expression[:80]!r}; write `column name` between two backticks"
                )
            placeholder = f"_quoted_{len(names)}_"
            names[placeholder] = expression[position + 1 : end]
            out.append(f" {placeholder} ")
            position = end + 1
            continue
        if letter in "'\"":
            if quote is None:
                quote = letter
            elif quote == letter:
                quote = None
        out.append(letter)
        position += 1
    return "".join(out), names


class _Evaluator:
    """Walks the syntax tree of one expression over one frame."""

    def __init__(self, expression: str, frame: pd.DataFrame, quoted: dict[str, str]) -> None:
        self.expression = expression
        self.frame = frame
        self.quoted = quoted

    def visit(self, node: ast.AST, depth: int) -> Any:
        """The value of `node`: a Series, a number or a text."""
        if depth > MAX_DEPTH:
            raise UserError(
                f"the expression {self.expression[:80]!r} is nested more than {MAX_DEPTH} deep; simplify it"
            )
        if isinstance(node, ast.Constant):
            return self._constant(node)
        if isinstance(node, ast.Name):
            return self._column(node.id)
        if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
            left, right = (self._number(self.visit(part, depth + 1)) for part in (node.left, node.right))
            return _ARITHMETIC[type(node.op)](left, right)
        if isinstance(node, ast.UnaryOp):
            return self._unary(node, depth)
        if isinstance(node, ast.BoolOp):
            parts = [self._truth(self.visit(part, depth + 1)) for part in node.values]  # noqa: PD011
            joined = parts[0]
            for part in parts[1:]:
                joined = joined & part if isinstance(node.op, ast.And) else joined | part
            return joined
        if isinstance(node, ast.Compare):
            return self._compare(node, depth)
        raise UserError(
            f"{_REFUSED.get(type(node), 'one part')} is not allowed in {self.expression[:80]!r}; "
            "use comparisons, arithmetic, and, or, not, in and column names only"
        )

    def _constant(self, node: ast.Constant) -> Any:
        if isinstance(node.value, (str, bool)) or node.value is None:
            return node.value
        if isinstance(node.value, (int, float)):
            try:
                return np.float64(node.value)
            except OverflowError as error:
                raise UserError(f"a number in {self.expression[:80]!r} is too large; write it as 1e30") from error
        raise UserError(f"{node.value!r} is not allowed in {self.expression[:80]!r}; use numbers and texts only")

    def _column(self, name: str) -> pd.Series:
        name = self.quoted.get(name, name)
        if name not in self.frame.columns:
            raise UserError(
                f"no column {name!r} for {self.expression[:80]!r}{nearest(name, map(str, self.frame.columns))}"
            )
        column = self.frame[name]
        if isinstance(column, pd.DataFrame):
            raise UserError(f"column {name!r} stands more than once in the table; rename one of the two")
        return column

    def _unary(self, node: ast.UnaryOp, depth: int) -> Any:
        value = self.visit(node.operand, depth + 1)
        if isinstance(node.op, ast.Not):
            return ~self._truth(value)
        if isinstance(node.op, ast.USub):
            return -self._number(value)
        if isinstance(node.op, ast.UAdd):
            return self._number(value)
        raise UserError(f"~ is not allowed in {self.expression[:80]!r}; write not")

    def _number(self, value: Any) -> Any:
        numeric = (
            pd.api.types.is_numeric_dtype(value)
            if isinstance(value, pd.Series)
            else isinstance(value, (float, np.floating))
        )
        if not numeric:
            raise UserError(f"arithmetic on text in {self.expression[:80]!r}; use numeric columns")
        return value.astype(float) if isinstance(value, pd.Series) else value

    def _truth(self, value: Any) -> pd.Series:
        if isinstance(value, (bool, np.bool_)):
            return pd.Series(bool(value), index=self.frame.index)
        if isinstance(value, pd.Series) and value.dtype == bool:
            return value
        raise UserError(
            f"and, or and not need conditions on both sides in {self.expression[:80]!r}, such as 'flops < 1e21'"
        )

    def _compare(self, node: ast.Compare, depth: int) -> pd.Series:
        left = self.visit(node.left, depth + 1)
        joined: pd.Series | None = None
        for symbol, right_node in zip(node.ops, node.comparators, strict=True):
            if isinstance(symbol, (ast.In, ast.NotIn)):
                if not isinstance(right_node, (ast.List, ast.Tuple, ast.Set)) or not isinstance(left, pd.Series):
                    raise UserError(f"write COLUMN in [a, b] in {self.expression[:80]!r}")
                right: Any = [self.visit(item, depth + 1) for item in right_node.elts]
                if any(isinstance(item, pd.Series) for item in right):
                    raise UserError(f"the list after in holds values, not columns, in {self.expression[:80]!r}")
                part = left.isin(right)
                part = ~part if isinstance(symbol, ast.NotIn) else part
            elif type(symbol) in _COMPARISONS:
                right = self.visit(right_node, depth + 1)
                part = _COMPARISONS[type(symbol)](left, right)
            else:
                raise UserError(f"'is' is not allowed in {self.expression[:80]!r}; use == or !=")
            if not isinstance(part, pd.Series):
                part = pd.Series(bool(part), index=self.frame.index)
            part = part.fillna(False).astype(bool)
            joined = part if joined is None else joined & part
            left = right
        assert joined is not None
        return joined

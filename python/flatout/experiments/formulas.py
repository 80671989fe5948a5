"""Sizes by formula: numbers, names, + - * / // ( ), min, max and ceil. Pure; nothing else is evaluated.

Method: Python's parser makes the tree, and only the kinds of nodes listed here are computed. Nothing is called but the
three functions, nothing has attributes or items, and no power can grow without bound.
"""

from __future__ import annotations

import ast
import math
import operator
import warnings
from collections.abc import Callable, Mapping

from flatout.errors import UsageError

_LONGEST = 300
# What a size or a rate can be.
_MOST = 1e15
_BINARY: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}
_UNARY: dict[type[ast.unaryop], Callable[[float], float]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
_FUNCTIONS: dict[str, tuple[Callable[..., float], int]] = {"min": (min, 1), "max": (max, 1), "ceil": (math.ceil, 1)}


def evaluate(text: str, names: Mapping[str, float]) -> float:
    """The value of a formula. Errors: UsageError for what is none, an unknown name, and a value without bounds."""
    if len(text) > _LONGEST:
        raise UsageError(f"a formula has at most {_LONGEST} characters")
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(text.strip(), mode="eval")
        value = _value(tree.body, names)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UsageError(f"'{text}' is no formula: write numbers, names, + - * / // ( ), min, max, ceil") from error
    except ZeroDivisionError as error:
        raise UsageError(f"'{text}' divides by zero") from error
    except OverflowError as error:
        raise UsageError(f"'{text}' is too large") from error
    return value


def whole(text: str, names: Mapping[str, float]) -> int:
    """The value of a formula, rounded up: room for a part of something is room for all of it."""
    return math.ceil(evaluate(text, names) - 1e-9)


def _value(node: ast.expr, names: Mapping[str, float]) -> float:
    value = _computed(node, names)
    if not math.isfinite(value) or abs(value) > _MOST:
        raise OverflowError
    return value


def _computed(node: ast.expr, names: Mapping[str, float]) -> float:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return float(number)
        case ast.Name(id=name):
            if name not in names:
                raise UsageError(f"there is no '{name}' here; there are {', '.join(sorted(names)) or 'no names'}")
            return float(names[name])
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return float(_BINARY[type(op)](_value(left, names), _value(right, names)))
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
            return float(_UNARY[type(op)](_value(operand, names)))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS:
            return float(_called(name, [_value(one, names) for one in arguments]))
    raise ValueError


def _called(name: str, values: list[float]) -> float:
    function, least = _FUNCTIONS[name]
    if len(values) < least or (name == "ceil" and len(values) != 1):
        raise ValueError
    return function(*values) if len(values) == 1 and name == "ceil" else function(values)

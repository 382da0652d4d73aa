"""Programs as JSON: they come back as the very nodes that they were, or are refused."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction

import pytest
from programs import write
from tools import program

import lossdsl
from lossdsl import pipeline
from lossdsl.ir.expr import INF, ONE, Range, add, and_, assign, cmp, fresh, ix, mul, num, postorder, red, ref
from lossdsl.ir.program import Note, Program
from lossdsl.ir.store import NotStorable, packed, unpacked
from lossdsl.kinds import Interval


def again(*programs: Program) -> tuple[Program, ...]:
    return unpacked(json.loads(json.dumps(packed(programs))))


def same(p: Program) -> None:
    (q,) = again(p)
    assert q == p and all(a is b for a, b in zip(q.roots, p.roots, strict=True))
    kinds = [(type(x.default), repr(x)) for x in (*p.params, *q.params)]
    assert kinds[: len(p.params)] == kinds[len(p.params) :], "1, 1.0, True and 1/1 are equal and not the same"


@pytest.mark.parametrize("name", lossdsl.library())
def test_the_library_and_its_gradients_come_back(name: str) -> None:
    loss = lossdsl.load(name).program
    same(loss)
    same(pipeline.stable(loss))
    if pipeline.differentiated(loss):
        same(pipeline.derived(loss, pipeline.differentiated(loss)))


def test_random_programs_come_back() -> None:
    for i in range(40):
        same(program(write(b"store" + bytes([i]), 8 + i).text))


@pytest.mark.parametrize("k", [0, 1, -1], ids=str)
def test_numbers_of_any_size_come_back(k: int) -> None:
    body = mul(num(Fraction(2**30_000 * k + 1, 3**20_000)), ref("x"))
    same(replace(program("a(x) = x"), outputs=(replace(program("a(x) = x").outputs[0], expr=body),)))


def test_ends_of_ranges_come_back() -> None:
    p = program("a(x: real[n]; lo: integer = 0, hi: integer = 3) = sum[b in lo..hi](b*sum[n](x))")
    same(p)
    assert any(isinstance(b.axis, Range) for e in postorder(p.roots) if e.op == "red" for b in e.data[1])
    same(p.with_roots(assign(p.roots, {"lo": num(-3)})))


def test_long_chains_come_back() -> None:
    e, c = ref("x"), cmp("<", ref("x"), ONE)
    for k in range(20_000):
        e, c = add(e, num(k)), and_(c, cmp("<", e, INF)) if k < 100 else c
    p = program("a(x) = x")
    same(replace(p.with_roots((e,)), requires=(c,)))


def test_several_share_their_nodes() -> None:
    p = program("a(x) = exp(x)*exp(x)")
    value = packed([p, replace(p, name="b")])
    assert len(value["nodes"]) == len(packed([p])["nodes"])
    assert [q.name for q in unpacked(value)] == ["a", "b"]


def test_values_keep_their_types() -> None:
    p = replace(program("a(x) = x"), notes=(Note("claim", (1, 1.0, True, Fraction(1), None, "1", (), (("",),), float("inf"))),))
    (q,) = again(p)
    assert [type(x) for x in q.notes[0].data] == [type(x) for x in p.notes[0].data] and q == p


class Token(str):
    """Looks like a text and is none."""


@pytest.mark.parametrize("foreign", [Token("a"), [1], {"a": 1}, {1}, 1j, b"", object, Interval])
def test_what_would_not_come_back_is_refused(foreign: object) -> None:
    with pytest.raises(NotStorable):
        packed([replace(program("a(x) = x"), notes=(Note("note", (foreign,)),))])


def test_fresh_indices_are_refused() -> None:
    """Their numbers count in this process; in another they may be in use."""
    p = program("a(x: real[n]) = sum[n](x)")
    i = fresh("n")
    with pytest.raises(NotStorable):
        packed([p.with_roots((ref("x", [ix(i)]),))])
    same(p.with_roots((red("sum", [i], ref("x", [ix(i)])),)))


@pytest.mark.parametrize(
    "value",
    [None, 0, "", [], {}, {"nodes": []}, {"nodes": [], "programs": [1]}, {"nodes": [["num", [0]]], "programs": []},
     {"nodes": [["num", [], {"number": "1/0"}]], "programs": []}, {"nodes": [["num", [], {"number": "x"}]], "programs": []},
     {"nodes": [[]], "programs": []}, {"nodes": [["ix", [], {"Index": [1]}]], "programs": []}, {"nodes": [], "programs": [{"Kind": []}]},
     {"nodes": [["ix", [], {"system": ["true"]}]], "programs": []}, {"nodes": [], "programs": [{"node": 1}]}, {"nodes": 1, "programs": 1}],
)  # fmt: skip
def test_anything_else_is_no_program(value: object) -> None:
    with pytest.raises(ValueError):
        unpacked(value)

"""How NumPy spells a program."""

from __future__ import annotations

import builtins
import keyword
from collections.abc import Sequence

from lossdsl.codegen.printer import Backend, Val
from lossdsl.functions import FUNCTIONS

HELPERS = {
    "alike": '''
def alike(x, y):
    """An array in the type of another."""
    return x.astype(y.dtype)
''',
    "called": '''
def called(f, by, args, rows, result, where, slopes):
    """A function at all rows together: its values, and its derivatives if they are asked for."""
    shape, real = args[0].shape[:rows], next((x.dtype for x in args if x.dtype.kind == "f"), np.float64)
    n = int(np.prod(shape, dtype=int))
    flat = [x.reshape(n, *x.shape[rows:]) for x in args]
    keep = slice(None) if where is None else np.flatnonzero(where)
    flat = [x[keep] for x in flat]
    value, *given = f(*flat) if result or len(flat[0]) else (np.zeros(0), *flat)
    given = given[0] if given and isinstance(given[0], (tuple, list)) else given

    def placed(x):
        out = np.zeros((n, *np.shape(x)[1:]), real)
        out[keep] = x
        return out

    value = placed(value)
    return value.reshape(shape + value.shape[1:1 + result]), (shape, result, [placed(x) for x in given] if slopes else [])
''',
    "pulled": '''
def pulled(tape, argument, cotangent, more):
    """The derivative by an argument, times the cotangent summed over what the function gives."""
    shape, result, slopes = tape
    slope = slopes[argument]
    given, axes = slope.shape[1:1 + result], slope.shape[1 + result:]
    n, r, m = slope.shape[0], int(np.prod(given, dtype=int)), int(np.prod(axes, dtype=int))
    if cotangent is None:
        return slope.reshape(shape + axes)
    further = cotangent.shape[len(shape):len(shape) + more]
    weight = cotangent.reshape(n, int(np.prod(further, dtype=int)), r)
    return (weight @ slope.reshape(n, r, m)).reshape(shape + further + axes)
''',
    "select": '''
def select(c, a, b):
    """np.where, by bits: no branch for each element, which a processor mostly guesses wrong."""
    if c.size < 1024:
        return np.where(c, a, b)
    real = a.dtype if isinstance(a, (np.ndarray, np.generic)) else b.dtype
    bits = np.dtype(f"i{real.itemsize}")
    mask = np.negative(c.view(np.int8)).astype(bits)
    a = np.asarray(a, real).view(bits)
    if not isinstance(b, np.ndarray) and b == 0:
        return (a & mask).view(real)
    b = np.asarray(b, real).view(bits)
    out = a ^ b
    if out.shape == c.shape:
        out &= mask
        out ^= b
    else:
        out = out & mask ^ b
    return out.view(real)
''',
    "largest": '''
def largest(x, axis, where=None):
    """The maximum where a condition holds; NaN if it holds nowhere."""
    if where is None:
        empty = 0 in (x.shape[k] for k in np.atleast_1d(axis))
        return x.sum(axis=axis) + np.nan if empty else x.max(axis=axis)
    x = select(where, x, -np.inf)
    peak = x.max(axis=axis, initial=-np.inf)
    if not (peak == -np.inf).any():
        return peak
    some = np.broadcast_to(where, x.shape).any(axis=axis)
    return np.where(some, peak, x.dtype.type(np.nan))
''',
    "smallest": '''
def smallest(x, axis, where=None):
    """The minimum where a condition holds; NaN if it holds nowhere."""
    return -largest(-x, axis, where)
''',
    "first_largest": '''
def first_largest(x, axis, where=None):
    """The first position of the maximum where a condition holds; NaN if it holds nowhere."""
    x, where = (x, None) if where is None else np.broadcast_arrays(x, where)
    if x.shape[axis] == 0:
        return x.sum(axis=axis) + np.nan
    if where is None:
        return x.argmax(axis=axis)
    at = np.where(where, x, -np.inf).argmax(axis=axis)
    hit = np.take_along_axis(where, np.expand_dims(at, axis), axis).squeeze(axis)
    at = np.where(hit, at, where.argmax(axis=axis))  # nothing but -inf: the first that counts
    some = where.any(axis=axis)
    return at if some.all() else np.where(some, at, np.nan)
''',
    "first_smallest": '''
def first_smallest(x, axis, where=None):
    """The first position of the minimum where a condition holds; NaN if it holds nowhere."""
    return first_largest(-x, axis, where)
''',
    "norm": '''
def norm(x, axis):
    """The Euclidean norm; rows whose squares overflow or underflow are scaled first."""
    square = (x*x).sum(axis=axis)
    fine = np.finfo(x.dtype)
    safe = (square > fine.tiny / fine.eps) & (square < fine.max)
    if safe.all():
        return np.sqrt(square)
    peak = np.abs(x).max(axis=axis, keepdims=True, initial=0)
    scale = np.where((peak > 0) & (peak < np.inf), peak, x.dtype.type(1))
    scaled = scale.reshape(square.shape)*np.sqrt(np.square(x/scale).sum(axis=axis))
    return np.where(safe, np.sqrt(square), scaled)
''',
    "order": '''
def order(x, axis, where=None):
    """The positions along an axis from the least entry to the largest, equal ones as they stand, NaN last.

    Entries where a condition fails are left out: then there are fewer, and NaN in the places beyond the last.
    """
    at = x.argsort(axis=axis, kind="stable")
    if where is None:
        return at
    shape = np.broadcast_shapes(x.shape, where.shape)
    at, where = np.broadcast_to(at, shape), np.broadcast_to(where, shape)
    left = ~np.take_along_axis(where, at, axis)
    at = np.take_along_axis(at, left.argsort(axis=axis, kind="stable"), axis)
    left = np.sort(left, axis=axis)
    return np.where(left, np.nan, at) if left.any() else at
''',
    "product": '''
def product(x, axis):
    """The product along axes; exponents are added apart, so that nothing overflows or vanishes on the way."""
    digits, powers = np.frexp(flat(x, axis))
    powers = powers.astype(np.int64)
    while digits.shape[-1] > 64:
        starts = np.arange(0, digits.shape[-1], 64)
        digits, more = np.frexp(np.multiply.reduceat(digits, starts, axis=-1))
        powers = np.add.reduceat(powers, starts, axis=-1) + more
    return np.ldexp(digits.prod(axis=-1), powers.sum(axis=-1))
''',
    "others": '''
def others(x, axis):
    """For each entry along axes the product of all the others."""
    whole = flat(x, axis)
    digits, powers = np.frexp(whole)
    out = np.ldexp(*but_one(digits, powers.astype(np.int64)))
    axes = np.atleast_1d(axis)
    shape = [n for k, n in enumerate(x.shape) if k not in axes] + [x.shape[k] for k in axes]
    return np.moveaxis(out.reshape(shape), range(-len(axes), 0), axes)
''',
    "but_one": '''
def but_one(digits, powers):
    """For each entry of rows the product of all the others, as digits*2^powers: in blocks, so that the digits stay in range."""
    *lead, n = digits.shape
    if n > 64:
        more = -n % 64
        pad = [(0, 0)]*len(lead) + [(0, more)]
        digits = np.pad(digits, pad, constant_values=1).reshape(*lead, -1, 64)
        powers = np.pad(powers, pad).reshape(*lead, -1, 64)
        whole, up = np.frexp(digits.prod(axis=-1))
        outer, outer_powers = but_one(whole, up + powers.sum(axis=-1))
        inner, powers = but_one(digits, powers)
        digits, up = np.frexp(inner*outer[..., None])
        powers = powers + outer_powers[..., None] + up
        return digits.reshape(*lead, -1)[..., :n], powers.reshape(*lead, -1)[..., :n]
    before = np.ones_like(digits)
    after = np.ones_like(digits)
    np.cumprod(digits[..., :-1], axis=-1, out=before[..., 1:])
    np.cumprod(digits[..., :0:-1], axis=-1, out=after[..., -2::-1] if n > 1 else after[..., :0])
    return before*after, powers.sum(axis=-1, keepdims=True) - powers
''',
    "flat": '''
def flat(x, axis):
    """The axes as one, the last."""
    axes = np.atleast_1d(axis)
    x = np.moveaxis(x, axes, range(-len(axes), 0))
    return x.reshape(*x.shape[:x.ndim - len(axes)], np.prod(x.shape[x.ndim - len(axes):], dtype=int))
''',
    "pick": '''
def pick(x, index, *computed):
    """Entries of x at integer positions along its leading axes; NaN where a computed one is out of range."""
    ok = inside(x, index, computed)
    if ok.all():
        return x[index]
    index = np.broadcast_arrays(*index)
    ok = np.broadcast_to(ok, index[0].shape)
    real = x.dtype if x.dtype.kind == "f" else np.float64
    out = np.full(ok.shape + x.shape[len(index):], np.nan, real)
    out[ok] = x[tuple(i[ok].astype(np.intp) for i in index)]
    return out
''',
    "add_at": '''
def add_at(x, index, computed, value):
    """x with a value added at one entry of each row, where it has that entry. x is changed."""
    at, value = present(x, index, computed, value)
    x[at] += value
    return x
''',
    "put_at": '''
def put_at(x, index, computed, value):
    """x with one entry of each row set to a value, where it has that entry. x is changed."""
    at, value = present(x, index, computed, value)
    x[at] = value
    return x
''',
    "present": '''
def present(x, index, computed, value):
    """The positions inside their axis, and the values for them."""
    ok = inside(x, index, (computed,))
    if ok.all():
        return index, value
    *index, ok, value = np.broadcast_arrays(*index, ok, value)
    return tuple(i[ok].astype(np.intp) for i in index), value[ok]
''',
    "by_rows": '''
def by_rows(f, width, *arrays):
    """f over blocks of rows of arrays, so that what it computes on the way, ``width`` numbers a row, stays small."""
    step = max(1, 2**16 // max(width, 1))
    if len(arrays[0]) <= step:
        return f(*arrays)
    parts = [f(*(x[k:k + step] for x in arrays)) for k in range(0, len(arrays[0]), step)]
    return np.concatenate(parts)
''',
    "as_index": '''
def as_index(x):
    """Numbers as positions; -1, which lies outside of every axis, for those that are not whole."""
    return np.where(np.abs(x) < 2**31, np.where(x == np.floor(x), x, -1), -1).astype(np.intp)
''',
    "inside": '''
def inside(x, index, computed):
    """Where the computed positions lie inside their axes."""
    ok = np.True_
    for k in computed:
        ok = ok & (index[k] >= 0) & (index[k] < x.shape[k])
    return ok
''',
    "shift": '''
def shift(x, axis, step):
    """x[i + step] along an axis; NaN where that is out of range."""
    out = np.empty(x.shape, x.dtype if x.dtype.kind == "f" else np.float64)
    k = min(abs(step), x.shape[axis])
    lead = (slice(None),)*axis
    low, high = slice(k), slice(k, None)  # the first k, and the others
    up, down = slice(x.shape[axis] - k, None), slice(x.shape[axis] - k)  # the last k, and the others
    to, of, edge = (down, high, up) if step > 0 else (high, down, low)
    out[(*lead, to)] = x[(*lead, of)]
    out[(*lead, edge)] = np.nan
    return out
''',
    "stacked": '''
def stacked(rows, pads, step):
    """The entries of a recursion, which follow so many others, in the order of their axis."""
    kept = rows[pads:][::step]
    return np.stack(kept) if kept else np.zeros((0, *rows[0].shape), rows[0].dtype)
''',
    "written": '''
def written(x, at, row):
    """x with one row set. x is changed."""
    x[at] = row
    return x
''',
    "scatter": '''
def scatter(shape, index, values, where=None):
    """Sums of values at integer positions along the leading axes; what lies outside is left out."""
    lead, kept = shape[:len(index)], shape[len(index):]
    rows = np.broadcast_shapes(*map(np.shape, index), values.shape[:values.ndim - len(kept)], np.shape(where))
    index = [np.broadcast_to(i, rows) for i in index]
    ok = np.broadcast_to(True if where is None else where, rows)
    for i, n in zip(index, lead):
        ok = ok & (0 <= i) & (i < n)
    values = np.broadcast_to(values, rows + kept)
    flat = np.ravel_multi_index(tuple(i[ok].astype(np.intp) for i in index), lead) if ok.any() else np.zeros(0, np.intp)
    values = values[ok]
    size = int(np.prod(lead))
    if values.ndim == 1:
        return np.bincount(flat, values, size).astype(values.dtype).reshape(shape)
    out = np.zeros((size, *kept), values.dtype)
    np.add.at(out, flat, values)
    return out.reshape(shape)
''',
    "counted": '''
def counted(keys, queries, relation, where=None):
    """An order of the keys of each row in which those come first that stand in a relation to a query, and their number for each.

    NaN stands in no relation; where a condition fails, a key counts as NaN.
    """
    real = np.result_type(keys, queries, np.float32)
    keys, queries = np.asarray(keys, real), np.asarray(queries, real)
    if relation[0] == ">":
        keys, queries = -keys, -queries
    if where is not None:
        keys = np.where(where, keys, real.type(np.nan))
    before = relation in ("<", ">")  # keys equal to a query come after it
    n, m = keys.shape[-1], queries.shape[-1]
    if keys.size == n > 0:
        queries = queries.reshape((1,)*(keys.ndim - queries.ndim) + queries.shape)
        keys = keys.reshape(n)
        order = keys.argsort()
        count = np.searchsorted(keys[order], queries, "left" if before else "right")
    else:
        rows = np.broadcast_shapes(keys.shape[:-1], queries.shape[:-1])
        both = [np.broadcast_to(x, rows + x.shape[-1:]) for x in ((queries, keys) if before else (keys, queries))]
        merged = np.concatenate(both, axis=-1).argsort(axis=-1, kind="stable")
        own = merged >= m if before else merged < n
        order = merged[own].reshape(*rows, n) - (m if before else 0)
        count = np.empty((*rows, m), np.intp)
        at = merged[~own].reshape(count.shape) - (0 if before else n)
        np.put_along_axis(count, at, own.cumsum(axis=-1)[~own].reshape(count.shape), -1)
    return order, np.where(np.isnan(queries), 0, count)
''',
    "prefixes": '''
def prefixes(keys, queries, relation, where=None):
    """The sets of the elements whose keys stand in a relation to each query.

    Sets are their sizes, and pieces whose union they are: an order of the elements, where groups begin in it (None: there is one),
    and where in it the part of a group ends that belongs to each set (0: none does).
    """
    order, count = counted(keys, queries, relation, where)
    return count, [(order, None, count)]
''',
    "steps": '''
def steps(queries, relation, first, n):
    """``prefixes`` where the keys are first, first + 1, .., n of them; the order is a step."""
    at = np.asarray(queries, np.float64) - first
    count = np.clip(np.ceil(at) if relation in ("<", ">=") else np.floor(at) + 1, 0, n)
    if relation[0] == ">":
        count = n - count
    count = np.where(np.isnan(at), 0, count).astype(np.intp)
    return count, [(1 if relation[0] == "<" else -1, None, count)]
''',
    "grouped": '''
def grouped(equal, order=None, where=None):
    """The sets of the elements of which all keys equal their queries, and one may stand in a relation to its query."""
    most, keys, queries, relation = 1, 0, 0, "<="
    if order:
        keys, queries, relation = order
        known, where = queries == queries, keys == keys if where is None else where & (keys == keys)
        (keys, queries), most = ranks(keys, queries)
    group = None
    for a, b in equal:
        (a, b), more = ranks(a, b)
        group, wanted = (a, b) if group is None else ranks(group*more + a, wanted*more + b)[0]
    edge = wanted*most + (-0.5 if relation[0] == "<" else most - 0.5)  # between a group and those before it
    ends = np.concatenate(np.broadcast_arrays(wanted*most + queries, edge), axis=-1)
    inner, ends = counted(group*most + keys, ends, relation, where)
    end, start = np.split(ends, 2, axis=-1)
    size = np.where(known, end - start, 0) if order else end - start
    group = along(group, inner)
    first = np.concatenate((np.ones_like(group[..., :1], bool), group[..., 1:] != group[..., :-1]), axis=-1)
    return size, [(inner, first, np.where(size > 0, end, 0))]
''',
    "ranks": '''
def ranks(*arrays):
    """Numbers below some whole number, the same for equal entries of a row and in their order; NaN is equal to none. And that number."""
    rows = np.broadcast_shapes(*(x.shape[:-1] for x in arrays))
    both = np.concatenate([np.broadcast_to(x, rows + x.shape[-1:]) for x in arrays], axis=-1)
    order = both.argsort(axis=-1)
    both = np.take_along_axis(both, order, -1)
    both[..., 1:] = both[..., 1:] != both[..., :-1]
    both[..., :1] = 0
    out = np.empty(both.shape)
    np.put_along_axis(out, order, both.cumsum(axis=-1, dtype=np.float64), -1)
    return np.split(out, [arrays[0].shape[-1]], axis=-1), both.shape[-1]
''',
    "dominated": '''
def dominated(keys, queries, relation, keys2, queries2, relation2, where=None):
    """The sets of the elements of which two keys stand in relations to two queries: of blocks in the order of the one, by the other."""
    order, end = counted(keys, queries, relation, where)
    order2, end2 = counted(keys2, queries2, relation2, where)
    n = order.shape[-1]
    place = along(order2.argsort(axis=-1), order)  # of each element of the first order in the second
    size, pieces = 0, []
    for level in range(max(n.bit_length(), 1)):
        block = np.arange(n) >> level
        before = ((end >> level) - 1) << level  # elements in the blocks before the one that belongs to a set
        inner, last = counted(block*n + place, (before >> level)*n + end2, "<")
        count = np.where((end >> level) & 1 > 0, last - before, 0)
        first = np.arange(n) % (1 << level) == 0
        size = size + count
        pieces.append((along(order, inner), first, np.where(count > 0, last, 0)))
    return size, pieces
''',
    "running_sum": '''
def running_sum(sets, x):
    return running(sets, lambda a, b: (a[0] + b[0],), (x.astype(np.float64),), (0,))[0].astype(x.dtype)
''',
    "running_prod": '''
def running_prod(sets, x):
    def join(a, b):
        digits, more = np.frexp(a[0]*b[0])
        return digits, a[1] + b[1] + more

    digits, powers = np.frexp(x.astype(np.float64))
    return np.ldexp(*running(sets, join, (digits, powers.astype(np.int64)), (1, 0))).astype(x.dtype)
''',
    "running_max": '''
def running_max(sets, x):
    peak = running(sets, lambda a, b: (np.maximum(a[0], b[0]),), (x,), (-np.inf,))[0]
    return np.where(sets[0] > 0, peak, x.dtype.type(np.nan))
''',
    "running_min": '''
def running_min(sets, x):
    return -running_max(sets, -x)
''',
    "running_norm": '''
def running_norm(sets, x):
    def join(a, b):
        return (np.where(np.isnan(a[0] + b[0]), np.nan, np.hypot(a[0], b[0])),)

    return running(sets, join, (np.abs(x).astype(np.float64),), (0,))[0].astype(x.dtype)
''',
    "running_exp": '''
def running_exp(sets, w, a, b):
    """The sums of w*exp(a + b), b one number for each: sums over exp(peak) with the largest exponent so far, so that none overflows."""
    real = a.dtype
    w, a = np.broadcast_arrays(w.astype(np.float64), a.astype(np.float64))
    a = np.where((w == 0) & (a < np.inf), -np.inf, a)

    def join(x, y):
        gap = np.exp(-np.abs(np.where(x[0] == y[0], 0, x[0] - y[0])))
        return np.maximum(x[0], y[0]), np.where(x[0] >= y[0], x[1] + y[1]*gap, x[1]*gap + y[1])

    peak, total = running(sets, join, (a, w), (-np.inf, 0))
    return np.where(sets[0] > 0, total*np.exp(peak + b), 0).astype(real)
''',
    "running": '''
def running(sets, join, parts, nothing):
    """What joining the elements of each set gives, each element a tuple of numbers; ``nothing`` where there are none."""
    out = None
    for order, first, end in sets[1]:
        found = [x[..., ::order] if isinstance(order, int) else along(x, order) for x in parts]
        found = accumulated(join, found) if first is None else groups(join, first, found)
        started = (np.concatenate((np.full((*x.shape[:-1], 1), e, x.dtype), x), axis=-1) for x, e in zip(found, nothing))
        found = [along(x, end) for x in started]
        out = found if out is None else join(out, found)
    return out
''',
    "groups": '''
def groups(join, first, parts):
    """``accumulated`` that starts anew at the first of each group."""
    def joined(a, b):
        return a[0] | b[0], *(np.where(b[0], y, x) for x, y in zip(join(a[1:], b[1:]), b[1:]))

    shape = np.broadcast_shapes(first.shape, *(x.shape for x in parts))
    return accumulated(joined, [np.broadcast_to(x, shape) for x in (first, *parts)])[1:]
''',
    "accumulated": '''
def accumulated(join, parts):
    """For each place of the last axis the join of all up to it, by pairs, so that errors grow like the logarithm of their number."""
    n = parts[0].shape[-1]
    if n < 2:
        return parts
    even, odd = [x[..., ::2] for x in parts], [x[..., 1::2] for x in parts]
    odd = accumulated(join, join([x[..., :n//2] for x in even], odd))
    later = join([x[..., :(n - 1)//2] for x in odd], [x[..., 1:] for x in even])
    out = [np.empty(x.shape, x.dtype) for x in parts]
    for x, e, o, y in zip(out, even, odd, later):
        x[..., :1], x[..., 1::2], x[..., 2::2] = e[..., :1], o, y
    return out
''',
    "along": '''
def along(x, at):
    """Entries of x at positions along its last axis, row by row."""
    if x.ndim == 1 or at.ndim == 1:
        return x[..., at]
    ndim = max(x.ndim, at.ndim)
    x, at = (y.reshape((1,)*(ndim - y.ndim) + y.shape) for y in (x, at))
    return np.take_along_axis(x, at, -1)
''',
}


_OWN = {"square": "np.square({0})"}


def _call(name: str, arity: int) -> str:
    if name in _OWN:
        return _OWN[name]
    row = FUNCTIONS[name]
    return row.spell["numpy"].format(**{a: f"{{{k}}}" for k, a in enumerate(row.args)})


def _dtype(first: str | None, number: bool) -> tuple[str, ...]:
    return (f"real = {first}.dtype.type" if number else "real = np.float64",)


def _cast(val: Val) -> str:
    return f"{val.atom()}.astype(real)" if val.dims else f"real({val.text})"


def _where(c: Val, a: str, b: str, kind: str) -> str:
    return f"{'select' if kind == 'real' and c.dims else 'np.where'}({c.text}, {a}, {b})"


def _arange(lo: str, hi: str | None) -> str:
    return f"np.arange({lo})" if hi is None else f"np.arange({lo}, {hi})"


def _tuple(items: Sequence[str]) -> str:
    return f"({', '.join(items)}{',' if len(items) == 1 else ''})"


def _pick(x: str, at: Sequence[str], computed: Sequence[int]) -> str:
    return f"pick({x}, {_tuple(at)}, {', '.join(map(str, computed))})" if computed else f"{x}[{', '.join(at)}]"


def _place(how: str, x: str, at: Sequence[str], computed: int, value: str) -> str:
    return f"{how}_at({x}, {_tuple(at)}, {computed}, {value})"


_REDUCE = {"max": "largest", "min": "smallest", "argmax": "first_largest", "argmin": "first_smallest", "norm": "norm",
           "argsort": "order", "prod": "product", "others": "others"}  # fmt: skip


def _reduce(op: str, x: str, axes: Sequence[int], where: str | None) -> str:
    axis = str(axes[0]) if len(axes) == 1 else str(tuple(axes))
    if op in _REDUCE:
        return f"{_REDUCE[op]}({_bare(x)}, {axis}{', ' + where if where else ''})"
    if op == "count":
        return f"np.count_nonzero({_bare(x)}, axis={axis})"
    return f"{x}.{op}(axis={axis})"


def _bare(x: str) -> str:
    """A text without parentheses around all of it."""
    depth = 0
    for k, c in enumerate(x):
        depth += (c == "(") - (c == ")")
        if depth == 0:
            return x[1:-1] if x[0] == "(" and k == len(x) - 1 else x
    return x


def _invert(val: Val) -> str:
    return f"~{val.atom(8)}" if val.dims else f"np.logical_not({val.text})"


def _transpose(x: str, order: Sequence[int]) -> str:
    return f"{x}.T" if list(order) == [1, 0] else f"{x}.transpose({', '.join(map(str, order))})"


def _expand(x: str, shape: Sequence[str]) -> str:
    return f"np.broadcast_to({x}, {_tuple(shape)})" if shape else x


def _einsum(spec: str, arrays: Sequence[str]) -> str:
    optimize = ", optimize=True" if len(arrays) > 2 else ""
    return f'np.einsum("{spec}", {", ".join(arrays)}{optimize})'


NUMPY = Backend(
    name="numpy",
    imports="import numpy as np\nfrom scipy import special",
    reserved=frozenset({*keyword.kwlist, *dir(builtins), *HELPERS, "np", "special", "real", "kernel", "value", "value_and_grad"}),
    constants={"pi": "np.pi", "inf": "np.inf", "nan": "np.nan"},
    helpers=HELPERS,
    call=_call,
    dtype=_dtype,
    cast=_cast,
    lift=lambda text: f"real({text})",
    where=_where,
    arange=_arange,
    reduce=_reduce,
    invert=_invert,
    transpose=_transpose,
    expand=_expand,
    full=lambda shape, x: f"np.full({_tuple(shape)}, {x}, real)" if shape else f"real({x})",
    apart=lambda x, axis: f"list({x})" if axis == 0 else f"list(np.moveaxis({x}, {axis}, 0))",
    contraction=_einsum,
    finite=lambda x: f"np.isfinite({x}).all()",
    bounds={"max": "{0}.clip({1}, np.inf)", "min": "{0}.clip(-np.inf, {1})"},
    pick=_pick,
    place=_place,
    by_rows=True,
    zeros=lambda shape: f"np.zeros({_tuple(shape)}, real)",
    int_=lambda x: x if x.lstrip("-").isdigit() else f"int({x})",
)

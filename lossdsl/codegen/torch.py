"""How PyTorch spells a program: plain tensor operations without branches on values, so that they compile, vmap and differentiate."""

from __future__ import annotations

import builtins
import keyword
from collections.abc import Sequence

from lossdsl.codegen.printer import Backend, Val
from lossdsl.functions import FUNCTIONS

HELPERS = {
    "alike": '''
def alike(x, y):
    """A tensor in the type and on the device of another."""
    return x.to(y)
''',
    "slope_of": '''
def slope_of(y, x, weight, keep):
    """The derivative of sum(weight*y) by x, as a function of both; 0 where y does not depend on x."""
    if not y.requires_grad:
        return torch.zeros_like(x)
    weight = weight.reshape(y.shape)
    return torch.autograd.grad(y, x, weight, create_graph=keep, retain_graph=True, allow_unused=True, materialize_grads=True)[0]
''',
    "applied": '''
def applied(f, by, args):
    """A function, or its derivative by arguments in turn, each with a cotangent as one more argument."""
    return f(*args) if not by else slope_of(applied(f, by[:-1], args[:-1]), args[by[-1]], args[-1], True)
''',
    "called": '''
def called(f, by, args, rows, result, where, slopes):
    """A function at all rows together: its values, and what its derivatives are found from."""
    shape = args[0].shape[:rows]
    flat = [x.reshape(shape.numel(), *x.shape[rows:]) for x in args]
    keep = None if where is None or (where != 0).all() else (where != 0).reshape(-1).nonzero()[:, 0]
    flat = flat if keep is None else [x[keep] for x in flat]
    none = not result and not len(flat[0])
    on, back = torch.is_grad_enabled(), None

    def of(*xs):
        value = applied(f, by, xs) if not none else xs[0].new_zeros(0)
        return value.reshape(value.shape[:1 + result])

    if not slopes and not by:
        return in_rows(of(*flat), keep, shape), None
    with torch.enable_grad():
        try:
            flat = [x.view_as(x) if on and x.requires_grad else x.detach().requires_grad_(x.is_floating_point()) for x in flat]
        except RuntimeError:  # a transformation of torch.func is under way, in which no tensor is told to require a gradient
            if by or not all(x.is_floating_point() for x in flat):
                raise
            value, back = torch.func.vjp(of, *flat)
        else:
            value = of(*flat)
    return in_rows(value if on else value.detach(), keep, shape), (flat, value, keep, shape, back)
''',
    "in_rows": '''
def in_rows(x, keep, shape):
    """Rows at their places, 0 elsewhere."""
    if keep is not None:
        x = torch.zeros((shape.numel(), *x.shape[1:]), dtype=x.dtype, device=x.device).index_copy(0, keep, x)
    return x.reshape(shape + x.shape[1:])
''',
    "pulled": '''
def pulled(tape, argument, cotangent, more):
    """The derivative by an argument, times the cotangent summed over what the function gives."""
    flat, value, keep, shape, back = tape
    on, x = torch.is_grad_enabled(), flat[argument]

    def slope(weight):
        return slope_of(value, x, weight, on) if back is None else back(weight)[argument]

    if cotangent is None:
        return in_rows(slope(torch.ones_like(value)), keep, shape)
    further = cotangent.shape[len(shape):len(shape) + more]
    weight = cotangent.reshape(shape.numel(), further.numel(), *value.shape[1:]).to(value.dtype)
    weight = weight if keep is None else weight[keep]
    parts = [slope(weight[:, k]) for k in range(further.numel())]
    out = torch.stack(parts, 1) if parts else x.new_zeros((x.shape[0], 0, *x.shape[1:]))
    return in_rows(out.reshape(x.shape[0], *further, *x.shape[1:]), keep, shape)
''',
    "as_real": '''
def as_real(x, real, device):
    """A number or a tensor as a tensor of the real type."""
    return x.to(real) if isinstance(x, torch.Tensor) else torch.full((), x, dtype=real, device=device)
''',
    "select": '''
def select(c, a, b):
    """a where c holds, else b."""
    if isinstance(c, torch.Tensor):
        return torch.where(c, a, b)
    like = a if isinstance(a, torch.Tensor) else b
    a, b = (x if isinstance(x, torch.Tensor) else torch.full((), x, dtype=like.dtype, device=like.device) for x in (a, b))
    a, b = torch.broadcast_tensors(a, b)
    return a if c else b
''',
    "invert": '''
def invert(c):
    return ~c if isinstance(c, torch.Tensor) else not c
''',
    "greater": '''
def greater(a, b):
    """The larger of two; NaN if one is."""
    if not isinstance(b, torch.Tensor):
        return a.clamp(min=b)
    return torch.maximum(a, b) if isinstance(a, torch.Tensor) else b.clamp(min=a)
''',
    "smaller": '''
def smaller(a, b):
    """The smaller of two; NaN if one is."""
    if not isinstance(b, torch.Tensor):
        return a.clamp(max=b)
    return torch.minimum(a, b) if isinstance(a, torch.Tensor) else b.clamp(max=a)
''',
    "largest": '''
def largest(x, dim, where=None):
    """The maximum where a condition holds; NaN if it holds nowhere."""
    if where is not None:
        x, where = torch.broadcast_tensors(x, where)
    if 0 in (x.shape[k] for k in dim):
        return x.sum(dim=dim) + torch.nan
    if where is None:
        return x.amax(dim=dim)
    return torch.where(where.any(dim=dim), torch.where(where, x, -torch.inf).amax(dim=dim), torch.nan)
''',
    "smallest": '''
def smallest(x, dim, where=None):
    """The minimum where a condition holds; NaN if it holds nowhere."""
    return -largest(-x, dim, where)
''',
    "first_largest": '''
def first_largest(x, dim, where=None):
    """The first position of the maximum where a condition holds; NaN if it holds nowhere."""
    x, where = (x, None) if where is None else torch.broadcast_tensors(x, where)
    if x.shape[dim] == 0:
        return x.sum(dim=dim) + torch.nan
    if where is None:
        unknown, best = x.isnan(), x.nan_to_num(-torch.inf, torch.inf, -torch.inf).argmax(dim=dim)
        return torch.where(unknown.any(dim=dim), unknown.to(torch.uint8).argmax(dim=dim), best)
    first = where & (x == torch.where(where, x, -torch.inf).amax(dim=dim, keepdim=True))
    return torch.where(first.any(dim=dim), first.to(torch.uint8).argmax(dim=dim).to(torch.float64), torch.nan)
''',
    "first_smallest": '''
def first_smallest(x, dim, where=None):
    """The first position of the minimum where a condition holds; NaN if it holds nowhere."""
    return first_largest(-x, dim, where)
''',
    "norm": '''
def norm(x, dim):
    """The Euclidean norm, scaled by the largest magnitude so that no square overflows or vanishes."""
    if 0 in (x.shape[k] for k in dim):
        return x.sum(dim=dim)
    peak = x.abs().amax(dim=dim, keepdim=True)
    scale = torch.where((peak > 0) & (peak < torch.inf), peak, 1.0)
    return scale.squeeze(dim)*(x/scale).square().sum(dim=dim).sqrt()
''',
    "order": '''
def order(x, dim, where=None):
    """The positions along an axis from the least entry to the largest, equal ones as they stand, NaN last.

    Entries where a condition fails are left out: then there are fewer, and NaN in the places beyond the last.
    """
    at = x.argsort(dim=dim, stable=True)
    if where is None:
        return at
    at, where = torch.broadcast_tensors(at, where)
    left, rank = torch.sort((~where.gather(dim, at)).to(torch.uint8), dim=dim, stable=True)
    return torch.where(left > 0, torch.nan, at.gather(dim, rank).to(torch.float64))
''',
    "scaled": '''
def scaled(x, powers):
    """x*2^powers, in two steps as the power alone may be out of range."""
    half = powers.div(2, rounding_mode="floor")
    return x*torch.exp2(half.to(x.dtype))*torch.exp2((powers - half).to(x.dtype))
''',
    "parts": '''
def parts(x):
    """Numbers as digits*2^powers, the digits below 1."""
    powers = torch.frexp(x.detach())[1].long()
    powers = torch.where(x.isfinite(), powers, 0)
    return scaled(x, -powers), powers
''',
    "product": '''
def product(x, dim):
    """The product along axes; exponents are added apart, so that nothing overflows or vanishes on the way."""
    digits, powers = parts(flat(x, dim))
    while digits.shape[-1] > 64:
        digits, powers = blocks(digits, powers)
        digits, more = parts(digits.prod(dim=-1))
        powers = powers.sum(dim=-1) + more
    return scaled(digits.prod(dim=-1), powers.sum(dim=-1).clamp(-4096, 4096))
''',
    "others": '''
def others(x, dim):
    """For each entry along axes the product of all the others."""
    digits, powers = but_one(*parts(flat(x, dim)))
    shape = [n for k, n in enumerate(x.shape) if k not in dim] + [x.shape[k] for k in dim]
    return torch.movedim(scaled(digits, powers.clamp(-4096, 4096)).reshape(shape), tuple(range(-len(dim), 0)), dim)
''',
    "but_one": '''
def but_one(digits, powers):
    """For each entry of rows the product of all the others, as digits*2^powers: in blocks, so that the digits stay in range."""
    n = digits.shape[-1]
    if n > 64:
        lead = digits.shape[:-1]
        digits, powers = blocks(digits, powers)
        whole, up = parts(digits.prod(dim=-1))
        outer, outer_powers = but_one(whole, up + powers.sum(dim=-1))
        inner, powers = but_one(digits, powers)
        digits, up = parts(inner*outer[..., None])
        powers = powers + outer_powers[..., None] + up
        return digits.reshape(*lead, -1)[..., :n], powers.reshape(*lead, -1)[..., :n]
    one = torch.ones_like(digits[..., :1])
    before = torch.cat((one, digits), dim=-1).cumprod(dim=-1)[..., :n]
    after = torch.cat((digits, one), dim=-1).flip(-1).cumprod(dim=-1).flip(-1)[..., 1:]
    return before*after, powers.sum(dim=-1, keepdim=True) - powers
''',
    "blocks": '''
def blocks(digits, powers):
    """Rows cut into blocks of 64, filled up with ones."""
    more = -digits.shape[-1] % 64
    digits = torch.nn.functional.pad(digits, (0, more), value=1.0)
    powers = torch.nn.functional.pad(powers, (0, more))
    return digits.reshape(*digits.shape[:-1], -1, 64), powers.reshape(*powers.shape[:-1], -1, 64)
''',
    "flat": '''
def flat(x, dim):
    """The axes as one, the last."""
    return torch.movedim(x, dim, tuple(range(-len(dim), 0))).flatten(x.ndim - len(dim))
''',
    "pick": '''
def pick(x, *index):
    """Entries of x at integer positions along its leading axes; NaN where one is out of range."""
    index = torch.broadcast_tensors(*(torch.as_tensor(i, device=x.device) for i in index))
    x = x if x.is_floating_point() else x.to(torch.float64)
    inside = torch.ones_like(index[0], dtype=torch.bool)
    for i, n in zip(index, x.shape):
        inside = inside & (0 <= i) & (i < n)
        if i.is_floating_point():
            inside = inside & (i == i.floor())
    kept = x.shape[len(index):]
    if 0 in x.shape[:len(index)]:
        return torch.full(inside.shape + kept, torch.nan, dtype=x.dtype, device=x.device)
    out = x[tuple(torch.where(inside, i, 0).long()[None] for i in index)][0]  # torch reads an index without axes as a number
    return torch.where(inside.reshape(inside.shape + (1,)*len(kept)), out, torch.nan)
''',
    "shift": '''
def shift(x, dim, step):
    """x[i + step] along an axis; NaN where that is out of range."""
    x = x if x.is_floating_point() else x.to(torch.float64)
    n = x.shape[dim]
    k = min(abs(step), n)
    inner = x.narrow(dim, k if step > 0 else 0, n - k)
    edge = torch.full_like(x.narrow(dim, 0, k), torch.nan)
    return torch.cat((inner, edge) if step > 0 else (edge, inner), dim)
''',
    "stacked": '''
def stacked(rows, pads, step):
    """The entries of a recursion, which follow so many others, in the order of their axis."""
    kept = rows[pads:][::step]
    return torch.stack(kept) if kept else rows[0][None][:0]
''',
    "written": '''
def written(x, at, row):
    """x with one row set."""
    return torch.cat((x[:at], row[None], x[at + 1:]))
''',
    "scatter": '''
def scatter(shape, index, values, where=True):
    """Sums of values at integer positions along the leading axes; what lies outside is left out."""
    lead, kept = shape[:len(index)], shape[len(index):]
    where = torch.as_tensor(where, device=values.device)
    index = (torch.as_tensor(i, device=values.device) for i in index)
    *index, where, _ = torch.broadcast_tensors(*index, where, values[(..., *(0,)*len(kept))].detach())
    ok = where
    flat = torch.zeros_like(index[0], dtype=torch.long)
    size = 1
    for i, n in zip(index, lead):
        ok = ok & (0 <= i) & (i < n)
        flat = flat*n + torch.where(ok, i, 0).long()
        size = size*n
    values = torch.where(ok.reshape(ok.shape + (1,)*len(kept)), values, 0.0).expand(ok.shape + kept)
    if size == 0:
        return values.new_zeros(shape)
    out = torch.zeros((size, *kept), dtype=values.dtype, device=values.device)
    return out.index_add(0, torch.where(ok, flat, 0).reshape(-1), values.reshape(-1, *kept)).reshape(shape)
''',
    "counted": '''
def counted(keys, queries, relation, where=None):
    """An order of the keys of each row in which those come first that stand in a relation to a query, and their number for each.

    NaN stands in no relation; where a condition fails, a key counts as NaN.
    """
    real = torch.promote_types(keys.dtype, queries.dtype)
    exact = real if keys.is_floating_point() and queries.is_floating_point() else torch.float64
    keys, queries = keys.detach().to(exact), queries.detach().to(exact)
    if relation[0] == ">":
        keys, queries = -keys, -queries
    if where is not None:
        keys = torch.where(where, keys, torch.nan)
    keys, order = keys.sort(dim=-1)  # NaN last
    known = (~keys.isnan()).sum(dim=-1, keepdim=True)
    keys = torch.where(keys.isnan(), torch.inf, keys)
    if keys.ndim > 1:
        rows = torch.broadcast_shapes(keys.shape[:-1], queries.shape[:-1])
        keys, queries = (x.expand(rows + x.shape[-1:]) for x in (keys, queries))
    count = torch.searchsorted(keys.contiguous(), queries.contiguous(), right=relation in ("<=", ">="))
    return order, torch.where(queries.isnan(), 0, torch.minimum(count, known))
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
    at = queries.detach().to(torch.float64) - first
    count = (at.ceil() if relation in ("<", ">=") else at.floor() + 1).clamp(0, n)
    if relation[0] == ">":
        count = n - count
    count = torch.where(at.isnan(), 0, count).long()
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
    ends = torch.cat(torch.broadcast_tensors(wanted*most + queries, edge), -1)
    inner, ends = counted(group*most + keys, ends, relation, where)
    end, start = ends.tensor_split(2, dim=-1)
    size = torch.where(known, end - start, 0) if order else end - start
    group = along(group, inner)
    first = torch.cat((torch.ones_like(group[..., :1], dtype=torch.bool), group[..., 1:] != group[..., :-1]), -1)
    return size, [(inner, first, torch.where(size > 0, end, 0))]
''',
    "ranks": '''
def ranks(*arrays):
    """Numbers below some whole number, the same for equal entries of a row and in their order; NaN is equal to none. And that number."""
    rows = torch.broadcast_shapes(*(x.shape[:-1] for x in arrays))
    both, order = torch.cat([x.detach().expand(rows + x.shape[-1:]) for x in arrays], -1).sort(dim=-1)
    new = torch.nn.functional.pad(both[..., 1:] != both[..., :-1], (1, 0))[..., :both.shape[-1]]
    out = new.to(torch.float64).cumsum(-1)
    out = torch.zeros_like(out).scatter(-1, order, out)
    n = arrays[0].shape[-1]
    return (out[..., :n], out[..., n:]), both.shape[-1]
''',
    "dominated": '''
def dominated(keys, queries, relation, keys2, queries2, relation2, where=None):
    """The sets of the elements of which two keys stand in relations to two queries: of blocks in the order of the one, by the other."""
    order, end = counted(keys, queries, relation, where)
    order2, end2 = counted(keys2, queries2, relation2, where)
    n = order.shape[-1]
    place = along(order2.argsort(dim=-1), order)  # of each element of the first order in the second
    at = torch.arange(n, device=order.device)
    size, pieces, level = 0, [], 0
    while level == 0 or 1 << level <= n:
        before = ((end >> level) - 1) << level  # elements in the blocks before the one that belongs to a set
        inner, last = counted((at >> level)*n + place, (before >> level)*n + end2, "<")
        count = torch.where((end >> level) & 1 > 0, last - before, 0)
        size = size + count
        pieces.append((along(order, inner), at % (1 << level) == 0, torch.where(count > 0, last, 0)))
        level += 1
    return size, pieces
''',
    "running_sum": '''
def running_sum(sets, x):
    join = lambda a, b: (a[0] + b[0],)
    return running(sets, join, lambda x: (x.cumsum(-1),), (x.to(torch.float64),), (0,))[0].to(x.dtype)
''',
    "running_prod": '''
def running_prod(sets, x):
    def join(a, b):
        digits, more = parts(a[0]*b[0])
        return digits, a[1] + b[1] + more

    digits, powers = running(sets, join, None, parts(x.to(torch.float64)), (1, 0))
    return scaled(digits, powers.clamp(-4096, 4096)).to(x.dtype)
''',
    "running_max": '''
def running_max(sets, x):
    join = lambda a, b: (torch.maximum(a[0], b[0]),)
    peak = running(sets, join, lambda x: (x.cummax(-1).values,), (x,), (-torch.inf,))[0]
    return torch.where(sets[0] > 0, peak, torch.nan)
''',
    "running_min": '''
def running_min(sets, x):
    return -running_max(sets, -x)
''',
    "running_norm": '''
def running_norm(sets, x):
    join = lambda a, b: (torch.where((a[0] + b[0]).isnan(), torch.nan, torch.hypot(a[0], b[0])),)
    whole = lambda x: ((2*x.log()).logcumsumexp(-1).div(2).exp(),)
    return running(sets, join, whole, (x.abs().to(torch.float64),), (0,))[0].to(x.dtype)
''',
    "running_exp": '''
def running_exp(sets, w, a, b):
    """The sums of w*exp(a + b), b one number for each: sums over exp(peak) with the largest exponent so far, so that none overflows."""
    real = a.dtype
    w, a = torch.broadcast_tensors(w.to(torch.float64), a.to(torch.float64))
    a = torch.where((w == 0) & (a < torch.inf), -torch.inf, a)

    def join(x, y):
        gap = (-torch.where(x[0] == y[0], 0.0, x[0] - y[0]).abs()).exp()
        return torch.maximum(x[0], y[0]), torch.where(x[0] >= y[0], x[1] + y[1]*gap, x[1]*gap + y[1])

    def whole(a, w):
        up, down = ((a + x.clamp(min=0).log()).logcumsumexp(-1) for x in (w, -w))
        peak = torch.maximum(up, down)
        peak = torch.where(peak.abs() < torch.inf, peak, 0.0)
        return peak, (up - peak).exp() - (down - peak).exp()

    peak, total = running(sets, join, whole, (a, w), (-torch.inf, 0))
    some = sets[0] > 0
    return torch.where(some, total*torch.where(some, peak + b, 0.0).exp(), 0.0).to(real)
''',
    "running": '''
def running(sets, join, whole, parts, nothing):
    """What joining the elements of each set gives, each element a tuple of numbers; ``nothing`` where there are none.

    Under torch.compile ``whole`` does it in one operation where it can.
    """
    out = None
    for order, first, end in sets[1]:
        if isinstance(order, int):
            found = [x if order > 0 else x.flip(-1) for x in parts]
        else:
            found = [along(x, order) for x in parts]
        if first is not None:
            found = groups(join, first, found, nothing)
        else:
            found = whole(*found) if whole and torch.compiler.is_compiling() else accumulated(join, found, nothing)
        found = [along(torch.nn.functional.pad(x, (1, 0), value=e), end) for x, e in zip(found, nothing)]
        out = found if out is None else join(out, found)
    return out
''',
    "groups": '''
def groups(join, first, parts, nothing):
    """``accumulated`` that starts anew at the first of each group."""
    def joined(a, b):
        return a[0] | b[0], *(torch.where(b[0], y, x) for x, y in zip(join(a[1:], b[1:]), b[1:]))

    return accumulated(joined, torch.broadcast_tensors(first, *parts), (False, *nothing))[1:]
''',
    "accumulated": '''
def accumulated(join, parts, nothing):
    """For each place of the last axis the join of all up to it, by pairs, so that errors grow like the logarithm of their number.

    Under torch.compile with twice as many each time: more work, but the same for all lengths up to a power of two.
    """
    n = parts[0].shape[-1]
    if torch.compiler.is_compiling():
        step = 1
        while step < n:
            parts = join([torch.nn.functional.pad(x[..., :-step], (step, 0), value=e) for x, e in zip(parts, nothing)], parts)
            step *= 2
        return parts
    if n < 2:
        return parts
    even, odd = [x[..., ::2] for x in parts], [x[..., 1::2] for x in parts]
    odd = accumulated(join, join([x[..., :n//2] for x in even], odd), nothing)
    later = join([x[..., :(n - 1)//2] for x in odd], [x[..., 1:] for x in even])
    even = [torch.cat((e[..., :1], y), -1) for e, y in zip(even, later)]
    pairs = (torch.stack((e[..., :n//2], o), -1).flatten(-2) for e, o in zip(even, odd))
    return [torch.cat((x, e[..., n//2:]), -1) for x, e in zip(pairs, even)]
''',
    "along": '''
def along(x, at):
    """Entries of x at positions along its last axis, row by row."""
    if x.ndim == 1 or at.ndim == 1:
        return x[..., at]
    ndim = max(x.ndim, at.ndim)
    x, at = (y.reshape((1,)*(ndim - y.ndim) + tuple(y.shape)) for y in (x, at))
    return torch.take_along_dim(x, at, -1)
''',
}

_OWN = {"max": "greater({0}, {1})", "min": "smaller({0}, {1})", "square": "torch.square({0})"}
_REDUCE = {"max": "largest", "min": "smallest", "norm": "norm", "prod": "product", "others": "others"}
_FIRST = {"argmax": "first_largest", "argmin": "first_smallest", "argsort": "order"}


def _call(name: str, arity: int) -> str:
    if name in _OWN:
        return _OWN[name]
    row = FUNCTIONS[name]
    return row.spell["torch"].format(**{a: f"{{{k}}}" for k, a in enumerate(row.args)})


def _dtype(first: str | None, real: bool) -> tuple[str, ...]:
    kind = f"real = {first}.dtype" if first and real else "real = torch.get_default_dtype()"
    return kind, f"device = {first}.device" if first else "device = None"


def _cast(val: Val) -> str:
    return f"{val.atom()}.to(real)" if val.dims else f"as_real({val.text}, real, device)"


def _where(c: Val, a: str, b: str, kind: str) -> str:
    return f"{'torch.where' if c.dims else 'select'}({c.text}, {a}, {b})"


def _arange(lo: str, hi: str | None) -> str:
    return f"torch.arange({lo}, device=device)" if hi is None else f"torch.arange({lo}, {hi}, device=device)"


def _reduce(op: str, x: str, axes: Sequence[int], where: str | None) -> str:
    dim = f"({', '.join(map(str, axes))}{',' if len(axes) == 1 else ''})"
    selected = f", {where}" if where else ""
    if op in _REDUCE:
        return f"{_REDUCE[op]}({x}, {dim}{selected})"
    if op in _FIRST:
        return f"{_FIRST[op]}({x}, {axes[0]}{selected})"
    if op == "count":
        return f"({x}).sum(dim={dim})"
    return f"{x}.{op}(dim={dim})"


def _invert(val: Val) -> str:
    return f"~{val.atom(8)}" if val.dims else f"invert({val.text})"


def _expand(x: str, shape: Sequence[str]) -> str:
    return f"torch.broadcast_to({x}, ({', '.join(shape)},))" if shape else x


TORCH = Backend(
    name="torch",
    imports="import torch",
    reserved=frozenset({*keyword.kwlist, *dir(builtins), *HELPERS, "torch", "real", "device"}),
    constants={"pi": "torch.pi", "inf": "torch.inf", "nan": "torch.nan"},
    helpers=HELPERS,
    call=_call,
    dtype=_dtype,
    cast=_cast,
    lift=lambda text: f"torch.full((), {text}, dtype=real, device=device)",
    where=_where,
    arange=_arange,
    reduce=_reduce,
    invert=_invert,
    transpose=lambda x, order: f"{x}.permute({', '.join(map(str, order))})",
    expand=_expand,
    full=lambda shape, x: f"torch.full(({''.join(f'{n}, ' for n in shape)}), {x}, dtype=real, device=device)",
    apart=lambda x, axis: f"{x}.unbind({axis})",
    contraction=lambda spec, arrays: f'torch.einsum("{spec}", {", ".join(arrays)})',
    finite=None,
    int_=lambda x: x if x.lstrip("-").isdigit() else f"int({x})",
    numbers=frozenset({"max", "min", "pow", "square"}),
)

"""The papers' equations in float64, token by token and head by head, and a measure of work and memory."""

from __future__ import annotations

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode


def elu_plus_one(x):
    """Katharopoulos et al. 2020, equation 7: elu(x) + 1, where elu(x) = x above 0 and exp(x) - 1 below."""
    return torch.where(x > 0, x + 1, x.masked_fill(x > 0, 0).exp())


def softplus(x):
    return x.clamp(min=0) + (-x.abs()).exp().log1p()


def project(heads, x):
    """Lists of q, k, v by head, each (N, T, size). The rows of the one projection are all q, then all k, then all v."""
    size, result = heads.size, []
    for row in range(0, (heads.heads + 2 * heads.kv_heads) * size, size):
        y = x @ heads.qkv.weight[row : row + size].T
        result.append(y if heads.qkv.bias is None else y + heads.qkv.bias[row : row + size])
    k_end = heads.heads + heads.kv_heads
    return result[: heads.heads], result[heads.heads : k_end], result[k_end:]


def unproject(heads, by_head):
    """Heads (N, T, size) side by side, times W_O."""
    y = torch.cat(by_head, -1) @ heads.out.weight.T
    return y if heads.out.bias is None else y + heads.out.bias


def rotate(x, position, layout="half", base=10_000.0):
    """Su et al. 2021, equation 15, for one vector: pair i is turned by position * base^(-2 i / d)."""
    d, turned = len(x), [None] * len(x)
    for i in range(d // 2):
        a, b = (i, i + d // 2) if layout == "half" else (2 * i, 2 * i + 1)
        angle = torch.tensor(position * base ** (-2 * i / d), dtype=torch.float64)
        turned[a] = x[a] * angle.cos() - x[b] * angle.sin()
        turned[b] = x[a] * angle.sin() + x[b] * angle.cos()
    return torch.stack(turned)


def softmax_attention(q, k, v):
    """One query (size,) and the keys and values (S, size) that it sees."""
    scores = torch.stack([q @ key for key in k]) / len(q) ** 0.5
    weights = (scores - scores.max()).exp()
    return sum(w * value for w, value in zip(weights / weights.sum(), v, strict=True))


def retrieve(m, z, feature):
    """s M / (s z), and 0 where that is 0 / 0."""
    return feature @ m / (feature @ z) if (feature @ z) > 0 else torch.zeros_like(m[0])


def infini_head(q, k, v, gate, *, segment, update, feature, layout, detach_every=None):
    """One head of one text (T, size), M and z, None if never written: Munkhdalai et al. 2024, equations 3 to 10."""
    m = z = None
    out = []
    for number, start in enumerate(range(0, len(q), segment)):
        tokens = range(start, min(start + segment, len(q)))
        if detach_every and number and number % detach_every == 0:
            m, z = m.detach(), z.detach()
        turned = {
            (kind, t): rotate(x[t], t - start, layout) if layout else x[t]
            for kind, x in (("q", q), ("k", k))
            for t in tokens
        }
        for t in tokens:
            keys = [turned["k", u] for u in tokens if u <= t]
            local = softmax_attention(turned["q", t], keys, [v[u] for u in tokens if u <= t])
            out.append(local if m is None else gate * retrieve(m, z, feature(q[t])) + (1 - gate) * local)
        if len(tokens) == segment:
            before = m, z
            for t in tokens:
                s = feature(k[t])
                new = v[t] if update == "linear" or before[0] is None else v[t] - retrieve(*before, s)
                m = torch.outer(s, new) if m is None else m + torch.outer(s, new)
                z = s if z is None else z + s
    return torch.stack(out), m, z


def infini_attention(module, x, feature=elu_plus_one, layout=None):
    """What an InfiniAttention gives, and M and z of each of its heads of keys; they are None if there are none."""
    heads = module.heads
    q, k, v = project(heads, x)
    options = {"segment": module.segment, "update": module.update, "feature": feature, "layout": layout}
    options["detach_every"] = module.detach_every
    results, gates = {}, 1 / (1 + (-module.gate).exp())
    for n in range(len(x)):
        for h in range(heads.heads):
            g = h // (heads.heads // heads.kv_heads)
            results[n, h] = infini_head(q[h][n], k[g][n], v[g][n], gates[h], **options)
    per_key_head = range(0, heads.heads, heads.heads // heads.kv_heads)
    texts = range(len(x))
    y = unproject(heads, [torch.stack([results[n, h][0] for n in texts]) for h in range(heads.heads)])
    if results[0, 0][1] is None:
        return y, None, None
    m, z = (torch.stack([torch.stack([results[n, h][i] for h in per_key_head]) for n in texts]) for i in (1, 2))
    return y, m, z


def linear_head(q, k, v, strength, feature):
    """One head of one text, (T, size), and M: Katharopoulos et al. 2020, equations 18 to 20, or, with a strength (T,),
    Schlag et al. 2021, equations 21 to 25, with features that are divided by their sum."""
    m, z, out = torch.zeros(q.shape[-1], v.shape[-1], dtype=q.dtype), torch.zeros_like(q[0]), []
    for t in range(len(q)):
        s_q, s_k = feature(q[t]), feature(k[t])
        if strength is None:
            m, z = m + torch.outer(s_k, v[t]), z + s_k
            out.append(s_q @ m / (s_q @ z))
        else:
            s_q, s_k = s_q / s_q.sum(), s_k / s_k.sum()
            m = m + strength[t] * torch.outer(s_k, v[t] - s_k @ m)
            out.append(s_q @ m)
    return torch.stack(out), m


def linear_attention(module, x, feature=elu_plus_one):
    """What a LinearAttention gives, and M of each of its heads of keys."""
    heads = module.heads
    q, k, v = project(heads, x)
    every = heads.heads // heads.kv_heads
    out, memories = [[] for _ in range(heads.heads)], [[] for _ in range(heads.kv_heads)]
    for n in range(len(x)):
        for h in range(heads.heads):
            g, strength = h // every, None
            if module.strength is not None:
                strength = 1 / (1 + (-(x[n] @ module.strength.weight[g] + module.strength.bias[g])).exp())
            y, m = linear_head(q[h][n], k[g][n], v[g][n], strength, feature)
            out[h].append(y)
            if h % every == 0:
                memories[g].append(m)
    y = unproject(heads, [torch.stack(texts) for texts in out])
    return y, torch.stack([torch.stack(texts) for texts in memories], 1)


class RecordingFeature(torch.nn.Module):
    """ELU + 1 that notes the dtypes it is given."""

    def __init__(self):
        super().__init__()
        self.dtypes = set()

    def forward(self, x):
        self.dtypes.add(x.dtype)
        return elu_plus_one(x)


class Measure(TorchDispatchMode):
    """Counts the elements that operators make, and of these the bytes that are still held.

    Views make nothing. What is held is asked of the storages themselves, so nothing that keeps a tensor is missed.
    """

    def __init__(self):
        super().__init__()
        self.made = 0
        self.storages = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        given = {x.untyped_storage().data_ptr() for x in args if isinstance(x, torch.Tensor)}
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage().data_ptr() not in given:
                storage = tensor.untyped_storage()
                self.made += tensor.numel()
                reference = StorageWeakRef(storage)
                self.storages[reference.cdata] = reference, storage.nbytes()
        return result

    def held(self):
        """Bytes of storages made since the beginning that someone still holds."""
        return sum(size for reference, size in self.storages.values() if not reference.expired())

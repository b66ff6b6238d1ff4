"""E2-CRF once more, slowly: one sample, one token, one head at a time, straight from the equations."""

import math
from fractions import Fraction

import torch

from lightning_freqdiff.caching.e2crf.policy import PROBE_STREAM
from lightning_freqdiff.sampling.noise import normal_stream


class SlowE2CRF:
    """One sample's cache. ``network`` calls are written out: no shared code with the policy but layers' weights."""

    def __init__(self, score, settings, seed, index, tokens):
        self.score, self.s, self.tokens = score, settings, tokens
        self.low = 2 * (tokens - 1) // 10 if settings.K_low is None else settings.K_low
        self.draws = normal_stream(seed, index, (1, tokens, 1), "cpu", PROBE_STREAM)
        self.step, self.kept = 0, None
        self.r = self.rate = math.inf
        self.idle = 0

    def __call__(self, z, t):
        """Answer for tokens ``z``, ``(K, F)``."""
        s, every = self.s, range(self.tokens)
        c = self.score.coefficients(t)
        self.alpha, self.sd, self.total, self.spread = (
            torch.broadcast_to(x, (1, *z.shape))[0] for x in (c.alpha, c.sigma, c.total, c.spread)
        )
        embedded, context = self.score.network.embed((z / self.total)[None], t)
        self.context, h0 = context, [embedded[0, k] for k in every]
        if self.kept is None:
            fresh = self.blocks(dict(enumerate(h0)), first=True)
            noise = {k: self.noise(fresh[k], z, k) for k in every}
            self.features = dict(fresh)
            self.kept = {k: self.keep(noise[k], z, k, h0[k], fresh[k]) for k in every}
            self.reference, self.age = z.clone(), [0] * self.tokens
            self.error_rate = [1.0] * self.tokens
            self.step += 1
            return torch.stack([noise[k] for k in every])
        self.idle += 1
        self.age = [a + 1 for a in self.age]
        chosen, probes, alpha = self.choose(z)
        past = {k: self.recall(self.kept[k], z, k, h0[k]) for k in every}
        answer = dict(past)
        if s.reuse == "kv":
            return self.answer_with_reused_pairs(z, h0, chosen, dict.fromkeys(probes, alpha))
        if chosen:
            fresh = self.blocks({k: h0[k] for k in chosen})
            changes = {}
            for k in chosen:
                noise = self.noise(fresh[k], z, k)
                error = float((noise - past[k]).square().mean())
                self.error_rate[k] = 0.5 * self.error_rate[k] + 0.5 * math.sqrt(error) / max(1, self.age[k])
                changes[k] = self.keep(noise, z, k, h0[k], fresh[k]) - self.kept[k]
            up = sum(float((fresh[k] - self.features[k]).square().sum()) for k in chosen)
            down = sum(float(self.features[k].square().sum()) for k in chosen)
            for k in chosen:
                share = alpha if k in probes else 1.0
                self.kept[k] = self.kept[k] + share * changes[k]
                answer[k] = self.noise(fresh[k], z, k) if share == 1.0 else self.recall(self.kept[k], z, k, h0[k])
                self.features[k], self.reference[k], self.age[k] = fresh[k], z[k], 0
            self.r = up / (down + s.eta)
            self.rate, self.idle = self.r / self.idle, 0
        if s.since == "previous":
            self.reference = z.clone()
        self.step += 1
        return torch.stack([answer[k] for k in every])

    def answer_with_reused_pairs(self, z, h0, chosen, alpha):
        """Algorithm 1: all tokens run, and only the keys and values of some are fresh."""
        every = range(self.tokens)
        fresh = self.blocks(dict(enumerate(h0)), refreshed=chosen, alpha=alpha)
        up = sum(float((fresh[k] - self.features[k]).square().sum()) for k in every)
        down = sum(float(self.features[k].square().sum()) for k in every)
        self.r = self.rate = up / (down + self.s.eta)
        self.features, self.idle = fresh, 0
        for k in chosen:
            self.reference[k], self.age[k] = z[k], 0
        if self.s.since == "previous":
            self.reference = z.clone()
        self.step += 1
        return torch.stack([self.noise(fresh[k], z, k) for k in every])

    def choose(self, z):
        s, every = self.s, range(self.tokens)
        delta = [float((z[k] - self.reference[k]).norm()) for k in every]
        energy = [float(z[k].square().sum()) if s.energy_weighting else 1.0 for k in every]
        tau = [s.tau0 / (s.epsilon + e) for e in energy]
        low = {k for k in every if k <= self.low}
        triggered = set()
        if s.trigger == "threshold":
            triggered = {k for k in every if delta[k] > tau[k]}
        elif s.trigger == "budget":
            key = {
                "delta": lambda k: delta[k] * (s.epsilon + energy[k]),
                "error": lambda k: self.age[k] * self.error_rate[k],
            }[s.signal]
            wanted = math.ceil(Fraction(str(s.budget)) * self.tokens)
            triggered = set(sorted(every, key=lambda k: (-key(k), k))[:wanted])
        triggered |= low
        draw = next(self.draws)[0, :, 0].tolist()
        rest = sorted((k for k in every if k not in triggered), key=lambda k: -draw[k])
        due = self.step % s.R == 0 or self.r > s.tau_warn
        probing = {"paper": due, "full": True, "off": False}[s.feedback]
        probes = set(rest[: s.probes]) if probing else set()
        chosen = triggered | probes
        if s.below_safe == "skip" and self.rate * self.idle < s.tau_safe:
            chosen = set()
        if s.below_safe == "low" and self.r < s.tau_safe:
            chosen = low | probes
        alpha = 1.0
        if due and s.feedback == "full":
            chosen = set(every)
        if due and s.feedback == "paper":
            chosen, alpha = chosen | probes, min(s.alpha_max, self.r / 2)
        return sorted(chosen), probes & chosen, alpha

    def blocks(self, h, first=False, refreshed=None, alpha=None):
        """Run the tokens in ``h`` through every block, one head and one query at a time.

        Keys and values are made for those that are ``refreshed``, by default all in ``h``, and taken over whole, or
        by the share that ``alpha`` says.
        """
        if first:
            self.pairs = [{} for _ in self.score.network.layers]
        for block, pairs in zip(self.score.network.layers, self.pairs, strict=True):
            width = len(next(iter(h.values())))
            size = width // block.heads
            queries = {}
            for k, x in h.items():
                projected = block.query_key_value(self.normed(block, x, 0))
                queries[k], key, value = projected.split(width)
                if refreshed is None or k in refreshed:
                    share = (alpha or {}).get(k, 1.0)
                    old = pairs.get(k, (key, value))
                    pairs[k] = tuple(o + share * (new - o) for o, new in zip(old, (key, value), strict=True))
            out = {}
            for k, x in h.items():
                heads = []
                for a in range(0, width, size):
                    scores = torch.stack(
                        [
                            queries[k][a : a + size] @ pairs[j][0][a : a + size] / math.sqrt(size)
                            for j in sorted(pairs)
                        ]
                    )
                    weights = scores.exp() / scores.exp().sum()
                    values = torch.stack([pairs[j][1][a : a + size] for j in sorted(pairs)])
                    heads.append(weights @ values)
                y = x + self.gate(block, 0) * block.project(torch.cat(heads))
                up = block.expand(self.normed(block, y, 1))
                if self.context is not None:
                    value, opening = up.chunk(2)
                    up = value * opening / (1 + (-opening).exp())
                else:
                    up = up.clamp(min=0)
                out[k] = y + self.gate(block, 1) * block.contract(up)
            h = out
        return h

    def normed(self, block, x, half):
        """The norm before attention (0) or feed-forward layer (1), with weights of its own or made of the context."""
        if self.context is None:
            return (block.norm_attention, block.norm_feedforward)[half](x)
        scale, shift, _ = block.norm.linear(self.context[0]).unflatten(0, (2, 3, -1))[half]
        unit = (x - x.mean()) / (x.var(correction=0) + 1e-5).sqrt()
        return unit * (1 + scale) + shift

    def gate(self, block, half):
        return 1 if self.context is None else 1 + block.norm.linear(self.context[0]).unflatten(0, (2, 3, -1))[half, 2]

    def noise(self, features, z, k):
        raw = self.score.network.head(features[None, None], self.context)[0, 0]
        return self.sd[k] * z[k] / self.total[k] ** 2 - self.spread[k] / self.total[k] * raw

    def keep(self, noise, z, k, h0, features):
        if self.s.stale == "output":
            return noise
        if self.s.stale == "residual":
            return features - h0
        scale = self.spread[k] / self.total[k]
        remainder = self.sd[k] * z[k] / self.total[k] ** 2 - noise
        return torch.where(scale > 0, remainder / scale.clamp(min=1e-30), 0.0)

    def recall(self, kept, z, k, h0):
        if self.s.stale == "output":
            return kept
        if self.s.stale == "residual":
            return self.noise(h0 + kept, z, k)
        return self.sd[k] * z[k] / self.total[k] ** 2 - self.spread[k] / self.total[k] * kept
